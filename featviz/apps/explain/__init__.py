"""Where in a photograph a unit found what it looks for."""
