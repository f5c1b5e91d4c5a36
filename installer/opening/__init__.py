"""From files, folders and keys that a person names to an open bundle: search, trust, clock and version policy."""
