"""What stands in the way of an installation, before anything is changed."""
