"""The commands from a recipe to a bundle."""
