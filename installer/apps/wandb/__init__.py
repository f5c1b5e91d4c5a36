"""The W&B platform, operator v1: what its profile cannot say."""
