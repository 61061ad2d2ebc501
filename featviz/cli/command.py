"""The `featviz` command: thin, and quick to answer, because torch loads only when a command needs it."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

import featviz as fv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLES = """
Examples:

\b
  featviz render --class spiral -o spiral.png         the embedded network's idea of a spiral
  featviz render stage2:5 stage2:6 -o units.png       two channels as a contact sheet
  featviz render "inception4a:476" --model googlenet
  featviz render "stage3:7 - 0.5*logit:rings" --size 160x320 --steps 256
  featviz layers --model resnet50
  featviz doctor --model motifnet
  featviz judge spiral.png --by motifvit              does a network that did not make it see it?
  featviz render "stage2:5 - 2*tv + diversity(stage2)" --batch 4
  featviz dream cat.jpg --layer inception4c --model googlenet
  featviz dream cat.jpg --zoom 1.03 --frames 96 -o fall.mp4
  featviz gallery --model motifnet -o gallery
  featviz sweep --layer stage2 -o units
  featviz explain cat.jpg --model mobilenet_v2 --method gradcam --method smoothgrad
  featviz examples photos --layer stage2 --channels 0-7
  featviz evidence photos --layer stage2
  featviz atlas photos --layer stage2 -o atlas
  featviz blocks cat.jpg --layer stage2 -o blocks
  featviz replay units.png
"""


def examples_of(command: str) -> str:
    """Return those of one command."""
    some = [line for line in EXAMPLES.splitlines() if line.startswith(f"  featviz {command} ")]
    return "\n".join(["Examples:", "", "\b", *some])


app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog=EXAMPLES, invoke_without_command=True)
def featviz(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for errors.")] = False,  # noqa: ARG001
) -> None:
    """See what a neural network has learned to see."""
    if version:
        typer.echo(f"featviz {fv.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and turn every error into one line and an exit status: 2 for bad input, 1 for the rest."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    with warnings.catch_warnings(), _telling():
        show_others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, fv.FeatvizWarning):
                _complain(message)
            else:
                show_others(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        try:
            return app([word for word in given if word != "--debug"], standalone_mode=False) or 0
        except typer.TyperException as error:
            known = {
                command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback
            }
            words = " ".join(["featviz", *[word for word in given[:1] if word in known], "--help"])
            return _complain(f"{error.format_message()} ({words})", status=2)
        except (typer.Abort, KeyboardInterrupt):
            return _complain("stopped", status=130)
        except Exception as error:
            if debug:
                raise
            if isinstance(error, fv.FeatvizError):
                return _complain(error, status=2)
            notes = "".join(f", {note}" for note in getattr(error, "__notes__", []))
            return _complain(f"{type(error).__name__}: {error}{notes} (--debug shows where)", status=1)


@contextmanager
def _telling() -> Iterator[None]:
    """Show what the library logs, such as how much memory a render will take."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("featviz: %(message)s"))
    told: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        """Whether it has not been said yet: a sweep is many renders."""
        known = record.getMessage() in told
        told.add(record.getMessage())
        return not known

    handler.addFilter(new)
    log = logging.getLogger("featviz")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _complain(what: object, *, status: int = 0) -> int:
    typer.echo(f"featviz: {what}", err=True)
    return status
