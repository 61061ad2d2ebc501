"""Class names of the bundled networks, in output order."""

MOTIFS = (
    *("stripes", "checkerboard", "dots", "hexagons", "bricks", "zigzag", "waves", "maze", "scales", "wood", "clouds"),
    *("plaid", "triangles", "weave", "giraffe", "crosses", "rings", "spiral", "sunburst", "star", "flower", "eye"),
    *("heart", "moon", "leaf", "smiley", "fish"),
)
