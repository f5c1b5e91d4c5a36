"""The command line of the connected side."""
