"""Pages that let one walk through what a layer sees."""
