"""W&B with its operator v2, as far as data cannot say it."""
