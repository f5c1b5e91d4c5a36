"""The program as a frozen file: where it is, what it carries, how it starts."""
