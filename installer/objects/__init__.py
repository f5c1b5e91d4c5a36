"""What an installation consists of in the cluster, as objects to be applied or written to files."""
