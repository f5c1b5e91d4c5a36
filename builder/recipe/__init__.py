"""What a bundle is made of: the recipe that people write, and the lock in which every name has become content."""
