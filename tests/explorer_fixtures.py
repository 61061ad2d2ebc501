"""A running explorer, and a client that reads its events."""

import pytest
import torch
import toys
from explore_client import Client

import featviz as fv


@pytest.fixture
def plain_explorer(tmp_path):
    """An explorer of a tiny network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with fv.explore(toys.plain(), output=tmp_path / "store", open_browser=False) as running:
        yield running
    torch.set_num_threads(threads)


@pytest.fixture
def client(plain_explorer):
    made = Client(plain_explorer.url)
    yield made
    made.close()


@pytest.fixture
def listening(client):
    with client.listening():
        yield client
