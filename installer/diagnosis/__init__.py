"""What state workloads are in, why, and what to do about it."""
