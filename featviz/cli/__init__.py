"""The `featviz` command; each file holds a command or a few, and registers them when it is imported."""

from featviz.cli.command import EXAMPLES, app, main

from featviz.cli import render, dream, gallery, explain, atlas, network, pictures  # isort: skip  (the order in which --help lists them)

__all__ = ["EXAMPLES", "app", "atlas", "dream", "explain", "gallery", "main", "network", "pictures", "render"]
