"""What a staging cluster asks for, compared with the lock."""
