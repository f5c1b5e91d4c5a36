"""How charts and operators spell image references: in keys, in parts, in running text."""
