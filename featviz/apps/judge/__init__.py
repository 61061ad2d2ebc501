"""Let a second, independently trained network say what it recognises in rendered images."""
