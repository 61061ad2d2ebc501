"""The `featviz` command line. Each module registers its commands when it is imported."""

from featviz.cli.command import EXAMPLES, app, main

# isort: off
# In the order in which --help lists them.
from featviz.cli import render, dream, accentuate, texture, gallery, explore, explain, atlas
from featviz.cli import circuit, diff, dictionary, concept, unit, embeddings, network, images
# isort: on

__all__ = [
    "EXAMPLES",
    "accentuate",
    "app",
    "atlas",
    "circuit",
    "concept",
    "dictionary",
    "diff",
    "dream",
    "embeddings",
    "explain",
    "explore",
    "gallery",
    "images",
    "main",
    "network",
    "render",
    "texture",
    "unit",
]
