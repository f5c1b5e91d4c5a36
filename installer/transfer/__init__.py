"""Bringing what a bundle holds to those who pull it: registries, nodes, a registry of our own."""
