"""The Kubernetes API and the objects that run workloads."""
