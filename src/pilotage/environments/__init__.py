"""What policies act in."""
