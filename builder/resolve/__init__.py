"""From recipe to lock: what is needed, what it resolves to, and the proof that nothing is missing."""
