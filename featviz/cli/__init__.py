"""The `featviz` command line. Each module registers its commands when it is imported."""

from featviz.cli.command import EXAMPLES, app, main

from featviz.cli import render, dream, accentuate, gallery, explore, explain, atlas  # isort: skip  (the order of --help)
from featviz.cli import dictionary, embeddings, network, images  # isort: skip

__all__ = [
    "EXAMPLES",
    "accentuate",
    "app",
    "atlas",
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
