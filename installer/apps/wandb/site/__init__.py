"""What a site is asked for the W&B platform, and what the charts make of the answers."""
