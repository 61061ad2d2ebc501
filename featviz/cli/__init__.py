"""The `featviz` command line. Each module registers its commands when it is imported."""

from featviz.cli.command import EXAMPLES, app, main

from featviz.cli import render, dream, gallery, explore, explain, atlas, circuit  # isort: skip  (as --help lists them)
from featviz.cli import dictionary, embeddings, network, images  # isort: skip

__all__ = [
    "EXAMPLES",
    "app",
    "atlas",
    "circuit",
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
