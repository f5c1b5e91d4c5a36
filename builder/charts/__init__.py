"""Charts on the connected side: fetched, rendered in all ways that matter, and searched for images."""
