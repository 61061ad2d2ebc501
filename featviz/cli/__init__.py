"""The `featviz` command line. Each module registers its commands when it is imported."""

from featviz.cli.command import EXAMPLES, app, main

from featviz.cli import render, dream, gallery, explore, explain, atlas, diff, dictionary, embeddings, network, images  # isort: skip  (the order in which --help lists them)

__all__ = [
    "EXAMPLES",
    "app",
    "atlas",
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
]
