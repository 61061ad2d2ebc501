"""Compare two networks: units that are shared, moved, lost and new, similarity of layers, and changed classes."""
