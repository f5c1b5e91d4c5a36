"""OCI images: digests, references, manifests, sources and the registry client."""
