"""Dictionaries of features: values, files, and how a network uses them."""

from featviz.network.dictionaries.codes import above_limit
from featviz.network.dictionaries.dictionary import Dictionary
from featviz.network.dictionaries.making import from_autoencoder, from_centres, from_components

__all__ = ["Dictionary", "above_limit", "from_autoencoder", "from_centres", "from_components"]
