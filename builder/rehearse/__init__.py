"""The enclave rehearsed at home: what the installer will do is done, and what it would refuse is refused."""
