"""A local page on which the units of a network are drawn as one looks at them."""
