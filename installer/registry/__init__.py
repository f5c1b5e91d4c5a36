"""The client of container registries (OCI distribution specification 1.1)."""
