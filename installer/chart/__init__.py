"""Helm charts: rendering, image references, retargeting to the enclave registry."""
