"""The bundle format, version 1: see FORMAT.md."""
