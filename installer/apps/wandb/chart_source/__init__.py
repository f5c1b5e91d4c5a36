"""Ways in which the W&B operator reads its chart."""
