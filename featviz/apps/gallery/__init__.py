"""Pages of pictures: what the classes of a network look like to it, or all of its units."""
