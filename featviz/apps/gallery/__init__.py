"""Pages of images: the classes of a network (gallery), or the units of layers (sweep)."""
