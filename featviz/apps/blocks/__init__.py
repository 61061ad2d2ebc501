"""Building blocks: one image, decomposed into what each part of it is to the layers of a network."""
