"""The `featviz` command line. Each module registers its commands when it is imported."""

from featviz.cli.command import EXAMPLES, app, main

# In the order in which --help lists them.
from featviz.cli import render, dream, gallery, explore, explain, atlas, dictionary, concept  # isort: skip
from featviz.cli import embeddings, network, images  # isort: skip

__all__ = [
    "EXAMPLES",
    "app",
    "atlas",
    "concept",
    "dictionary",
    "dream",
    "embeddings",
    "explain",
    "explore",
    "gallery",
    "images",
    "main",
    "network",
    "render",
]
