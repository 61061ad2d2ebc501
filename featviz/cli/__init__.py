"""The `featviz` command line. Each module registers its commands when it is imported."""

from featviz.cli.command import EXAMPLES, app, main

from featviz.cli import (
    render,
    dream,
    gallery,
    explore,
    explain,
    atlas,
    circuit,
    dictionary,
    embeddings,
    network,
    images,
)  # isort: skip  (the order in which --help lists them)

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
