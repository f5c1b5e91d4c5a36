"""The commands about the bundle itself: they need neither registry nor cluster."""
