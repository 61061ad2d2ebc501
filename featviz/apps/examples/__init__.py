"""Dataset examples: the photographs to which channels respond most and least."""
