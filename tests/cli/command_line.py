"""What the tests of the command line share."""

import contextlib
import io

from featviz.cli import app, main

COMMANDS = {command.callback.__name__: command.callback for command in app.registered_commands}
QUICK = ["--steps", "2", "--quiet"]


def printed(capsys):
    """Return the lines of standard output and of standard error."""
    captured = capsys.readouterr()
    return captured.out.strip().splitlines(), captured.err.strip().splitlines()


OWN = """
import featviz as fv
import torch
from torch import nn
from featviz import objectives as obj

def bare():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

def whole():
    return fv.Network(bare(), size=20, mean=(.5,) * 3, std=(.5,) * 3)

def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))

def nothing():
    return 3

@obj.objective("0")
def corner(acts):
    return acts["0"][:, 1, 0, 0]
"""


def help_of(*words):
    """Return the help of a command, as one line."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*words, "--help"]) == 0
    return " ".join(out.getvalue().split())
