"""What the templates of a chart read, and what they become before they are rendered at home."""
