"""Everything that may run inside the enclave: bundle format, OCI model, registry client and the workflows."""

__version__ = "0.1.0"
