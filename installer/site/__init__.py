"""What the place is like where an installation happens: answers in site.yaml, and values that follow from them."""
