"""The connected side: recipe, lock, build, sign, freeze."""
