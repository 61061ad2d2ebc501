"""Run networks to learn about their layers: axes, positions, receptive fields, and accepted input sizes."""
