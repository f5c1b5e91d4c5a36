"""Whether a bundle is genuine and whole, and how to mend it where it is not."""
