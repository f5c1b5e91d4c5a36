"""The commands that bring images where nodes find them: into a registry, onto a node, or served from here."""
