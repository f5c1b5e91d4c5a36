"""The commands about an installation in the cluster."""
