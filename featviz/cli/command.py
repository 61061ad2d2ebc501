"""The `featviz` command: its help, and how errors, warnings and log messages are printed."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import featviz as fv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLES = """
Examples:

\b
  featviz render --class spiral -o spiral.png     class of a bundled network
  featviz render stage2:5 stage2:6 -o units.png   two channels on one sheet
  featviz render "inception4a:476" --model googlenet
  featviz render "stage3:7 - 0.5*logit:rings" --size 160x320 --steps 256
  featviz render "stage2:5 * (1.5 + diversity(stage2)) - 2*tv" --batch 4
  featviz dream cat.jpg --layer inception4c --model googlenet
  featviz dream cat.jpg --zoom 1.03 --frames 96 -o zoom.mp4
  featviz texture sphere logit:bricks -o sphere   texture of a mesh, and a page that turns it
  featviz gallery --model motifnet -o gallery
  featviz sweep --layer stage2 -o units
  featviz explore --model motifnet                in the browser, on a local page
  featviz accentuate cat.jpg stage3:5             enhance what a unit detects
  featviz explain cat.jpg --model mobilenet_v2 --method gradcam
  featviz explain cat.jpg -o cat.html             compare methods on a page
  featviz attention cat.jpg --model motifvit -o attention.html
  featviz examples photos --layer stage2 --channels 0-7
  featviz evidence photos --layer stage2
  featviz atlas photos --layer stage2 -o atlas
  featviz blocks cat.jpg --layer stage2 -o blocks
  featviz circuit stage3:17 -o circuit            inputs that excite and inhibit a unit
  featviz dictionary photos --layer stage3 --features 64 -o sae.safetensors
  featviz concept stripes others --layer stage3 -o stripes.safetensors
  featviz unit stage3:5 --photographs photos -o unit.html
  featviz diff motifnet motifvit photos -o diff   compare two networks
  featviz embeddings photos cat.png -o map.html   similar photographs, and a map
  featviz embeddings glove.txt "king - man + woman"
  featviz layers --model resnet50
  featviz doctor --model motifnet
  featviz judge spiral.png --judge motifvit       does another network agree?
  featviz replay units.png
"""

RESUMABLE = ("gallery", "sweep", "atlas", "blocks", "circuit", "diff", "dictionary")
"""Commands that resume: they keep finished images and render the missing ones."""
SHORT_OPTIONS = ("h", "o")
"""Letters of the options that have a short form."""


def examples_of(command: str) -> str:
    """Return the lines of `EXAMPLES` that show one command."""
    lines = [line for line in EXAMPLES.splitlines() if line.startswith(f"  featviz {command} ")]
    return "\n".join(["Examples:", "", "\b", *lines])


class _Commands(TyperGroup):
    """The commands, whose summaries are wrapped in the help, and never cut."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Without this, Typer exits silently after Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Abort from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the name and the first sentence of each command."""
        listed = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (command.help or "").partition("\n\n")[0]) for name, command in listed if command]
            )


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog=EXAMPLES, invoke_without_command=True)
def featviz(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for errors.")] = False,  # noqa: ARG001
) -> None:
    """Feature visualization and DeepDream: see what a neural network has learned."""
    # --debug stands here for its help only: `main` reads it, which also shows the errors of reading the words.
    if version:
        typer.echo(f"featviz {fv.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and print every error as one line.

    Args:
        arguments: The words after `featviz`; `None` for those of this process.

    Returns:
        The exit status: 0, 2 for bad input, 130 after Ctrl-C or SIGTERM, 1 for any other error.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    with _warnings_as_lines(), _log_as_lines(), _signals_as_ctrl_c():
        try:
            return app(_as_arguments(given), standalone_mode=False) or 0
        except typer.TyperException as error:
            return _print_error(f"{error.format_message()} ({_help_command(given)})", status=2)
        except (typer.Abort, KeyboardInterrupt):
            more = "; run the same command again to continue" if _command_of(given) in RESUMABLE else ""
            return _print_error(f"interrupted{more}", status=130)
        except SystemExit as error:  # of the user's objective or network; Typer raises none here
            if debug:
                raise
            said = f"your code ended with sys.exit({error.code!r}) while it ran; raise an error instead"
            return _print_error(said, status=2)
        except Exception as error:
            if debug:
                raise
            if isinstance(error, fv.FeatvizError):
                return _print_error(error, status=2)
            notes = "".join(f", {note}" for note in getattr(error, "__notes__", []))
            said = " ".join(f"{type(error).__name__}: {error}{notes}".split())
            return _print_error(f"{said} (add --debug for a traceback)", status=1)


def _as_arguments(words: Sequence[str]) -> list[str]:
    """Return the words for Typer: without --debug, and negated objectives, as -stage2:5, with a space before.

    The space keeps them from being read as options. Short options are one letter, or with their value, as in -oFILE.
    Names of existing files get their folder, ./, and the value of -o stays as it is.
    """

    def is_negated(word: str) -> bool:
        names_unit = ":" in word and "://" not in word
        is_short = len(word) <= 2 or (word[1] in SHORT_OPTIONS and not names_unit)
        return word.startswith("-") and not word.startswith("--") and not is_short

    end = words.index("--") if "--" in words else len(words)  # what follows is no option in any case
    own = [word for word in words[:end] if word != "--debug"]
    for i, word in enumerate(own):
        is_output = i > 0 and own[i - 1] in ("-o", "--output")
        if is_negated(word) and not is_output:
            own[i] = f"./{word}" if ":" not in word and os.path.lexists(word) else f" {word}"
    return [*own, *words[end:]]


def _help_command(given: Sequence[str]) -> str:
    """Return the command line that shows the help of the command that was given."""
    known = {command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback}
    named = _command_of(given)
    return " ".join(["featviz", *([named] if named in known else []), "--help"])


def _command_of(given: Sequence[str]) -> str:
    """Return the name of the command: the first word that is no option, as in `--debug gallery`; empty for none."""
    return next((word for word in given if not word.startswith("-")), "")


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print warnings of featviz as one line each, and leave all others as they are."""
    with warnings.catch_warnings():
        show_others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, fv.FeatvizWarning):
                _print_error(message)
            else:
                show_others(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Treat SIGTERM, which clusters send before they stop a job, and SIGHUP, of a closed terminal, as Ctrl-C.

    A signal that is ignored, as SIGHUP under `nohup`, stays so.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return

    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def interrupt(number: int, _: object) -> None:
        if number != signal.SIGTERM:  # the terminal has gone, and what is printed goes nowhere
            for stream in terminals:
                with Path(os.devnull).open("w") as nowhere:
                    os.dup2(nowhere.fileno(), stream)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has one
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


@contextmanager
def _log_as_lines() -> Iterator[None]:
    """Print what the library logs, such as the memory that a render will take; each message once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("featviz: %(message)s"))
    printed: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        repeated = record.getMessage() in printed  # a sweep renders many times
        printed.add(record.getMessage())
        return not repeated

    handler.addFilter(is_new)
    log = logging.getLogger("featviz")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _print_error(message: object, *, status: int = 0) -> int:
    if "featviz.io" in sys.modules:  # it takes a second to import, and without it there is no bar
        from featviz.io import close_bars

        close_bars()
    typer.echo(f"featviz: {message}", err=True)
    return status
