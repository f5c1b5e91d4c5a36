"""The command line of the installer."""
