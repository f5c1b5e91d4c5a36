"""From install to uninstall: what is done in which order, and what is remembered of it."""
