"""Draw motifs and train the bundled networks on them. Not part of the installed package."""
