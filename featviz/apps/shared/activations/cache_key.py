"""Cache keys of results computed from a network and photographs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import featviz as fv


def cache_key(network: fv.Network, *facts: object) -> str:
    """Return a hash of a network and other facts: 16 hexadecimal digits.

    Of the network it hashes the weights, code, input specification, heads and dictionaries.

    Args:
        network: The network.
        facts: Numbers, texts, lists and dictionaries that decide the result, too.
    """
    dictionaries = [(name, each.fingerprint) for name, each in sorted(network.dictionaries.items())]
    facts = (asdict(network.input), sorted(network.given_heads), dictionaries, *facts)
    text = json.dumps([network.fingerprint, network.code_hash, *facts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
