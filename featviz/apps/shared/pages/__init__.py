"""Pages without a server, and the pictures and texts on them."""
