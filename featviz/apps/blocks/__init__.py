"""Building blocks: an image decomposed into the activations of its parts, layer by layer."""
