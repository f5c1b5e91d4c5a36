"""Where images come from, and what a name stands for there."""
