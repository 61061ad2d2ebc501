"""The `featviz` command: thin, and quick to answer, because torch loads only when a command needs it."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import featviz as fv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILMS = (".mp4", ".webm", ".mov", ".mkv", ".avi")
"""Endings of files that are videos and never pictures."""
EXAMPLES = """
Examples:

\b
  featviz render --class spiral                       the embedded network's idea of a spiral
  featviz render stage2:5 stage2:6 -o units.png       two channels as a contact sheet
  featviz render "inception4a:476" --model googlenet
  featviz render "stage3:7 - 0.5*logit:rings" --size 160x320 --steps 256
  featviz layers --model resnet50
  featviz render "stage2:5 - 2*tv + diversity(stage2)" --batch 4
  featviz dream cat.jpg --layer inception4c --model googlenet
  featviz dream cat.jpg --zoom 1.03 --frames 96 -o fall.mp4
  featviz replay units.png
"""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[
    str, typer.Option(help="motifnet, a torchvision name, timm/NAME, FILE.py:FACTORY or PACKAGE.MODULE:FACTORY.")
]
Weights = Annotated[
    str, typer.Option(help="default: the model's own; none: random ones; or a safetensors or state_dict FILE.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Size = Annotated[str | None, typer.Option(help="Height and width in px, 224 or 160x320. Left out: the network's own.")]
Mean = Annotated[str | None, typer.Option(help="Per channel in [0, 1], as 0.5,0.5,0.5. Left out: the model's own.")]
Std = Annotated[str | None, typer.Option(help="Per channel, as 0.5,0.5,0.5. Left out: the model's own.")]
Own = Annotated[
    list[str] | None,
    typer.Option(help="FILE.py:NAME of an objective, param or transform of one's own, to use by name."),
]
Precision = Annotated[
    str, typer.Option(help="Of the network: float32, bfloat16, or auto for the faster one, measured once.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="A .png, .jpg or .webp file, or a folder for a file each. Left out: by name."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Draw no progress bar.")]


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


@app.command(epilog=EXAMPLES)
def render(
    objectives: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OBJECTIVE...", help='Such as stage2:5, stage2:5@3,4 or "logit:spiral - tv + 2*diversity(stage2)".'
        ),
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Short for logit:NAME; may be given several times.")
    ] = None,
    model: Model = "motifnet",
    weights: Weights = "default",
    size: Size = None,
    batch: Annotated[int, typer.Option(help="Pictures of each objective.")] = 1,
    steps: Annotated[int, typer.Option(help="Optimisation steps.")] = 512,
    seed: Annotated[int, typer.Option(help="The first picture's; the next has the next.")] = 0,
    param: Annotated[
        str, typer.Option(help='fourier, pyramid, phase, cppn, alpha …, or an expression such as "Fourier(decay=1.5)".')
    ] = "fourier",
    transforms: Annotated[
        str, typer.Option(help='standard, lucid, none, or an expression such as "(Pad(8), Jitter(16))".')
    ] = "standard",
    optimizer: Annotated[
        str, typer.Option(help='adam, ascent, normalized, or an expression such as "Clipped(0.1, Ascent(lr=2.0))".')
    ] = "adam",
    lr: Annotated[float, typer.Option(help="The first step's learning rate, of adam.")] = 0.05,
    start: Annotated[Path | None, typer.Option(help="A picture to begin from. Left out: noise.")] = None,
    at: Annotated[str | None, typer.Option(help="Draw the result again at this size; for --param cppn.")] = None,
    smooth_pools: Annotated[
        bool, typer.Option("--smooth-pools", help="Spread the gradient of maximum pools, which takes their grid away.")
    ] = False,
    precision: Precision = "auto",
    max_memory: Annotated[
        str | None, typer.Option(help="How much to take, as 4GB; a batch that needs more is split. Left out: most.")
    ] = None,
    tile: Annotated[int | None, typer.Option(help="See larger views in pieces of so many px. Left out: whole.")] = None,
    device: Device = "auto",
    mean: Mean = None,
    std: Std = None,
    own: Own = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Draw what units of a network see; several become one batch."""
    fv.check_output(output or Path("sheet.png"))
    named = _own(own)
    goals = [fv.objectives.parse(text, named) for text in objectives or []]
    goals += [fv.objectives.Logit(int(name) if name.isdigit() else name) for name in classes or []]
    if not goals:
        raise fv.SettingError("nothing to render; give an objective such as stage2:5, or --class NAME")
    whole, again = fv.param.sized(fv.pick(param, fv.param, named), _size(size), batch), _size(at)
    if again and not getattr(whole, "scales", False):
        raise fv.SettingError(f"--at draws again what has no size of its own, and {param} has one; give --param cppn")
    network = _load(model, weights, device, size, mean, std, smooth_pools=smooth_pools)
    rendering = fv.render(
        network,
        goals,
        param=whole,
        transforms=fv.pick(transforms, fv.transforms, named),
        optimizer=fv.Adam(lr) if optimizer.lower() == "adam" else fv.pick(optimizer, fv.optimizers, named),
        steps=steps,
        seed=seed,
        start=start,
        plan=fv.Plan(None if precision == "auto" else precision, max_memory=max_memory, tile=tile),  # type: ignore[arg-type]
        progress=None if quiet else fv.progress_bar("render"),
    )
    _finish(rendering.at(again) if again else rendering, output)


@app.command(epilog=EXAMPLES)
def dream(
    photo: Annotated[Path, typer.Argument(help="A picture; or a video, where a video is written.")],
    objective: Annotated[
        str | None, typer.Argument(help="As for render. Left out: a layer two thirds into the network.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="All of this layer, as the objective.")] = None,
    model: Model = "motifnet",
    weights: Weights = "default",
    octaves: Annotated[int, typer.Option(help="At how many sizes, the largest being the photograph's.")] = 4,
    scale: Annotated[float, typer.Option(help="How much larger each is than the last.")] = 1.4,
    steps: Annotated[int, typer.Option(help="At each size.")] = 10,
    strength: Annotated[float, typer.Option(help="How far a step goes.")] = 1.0,
    jitter: Annotated[int, typer.Option(help="How far at most the picture is rolled before each step, in px.")] = 32,
    smooth: Annotated[float, typer.Option(help="Blur gradients so many px wide.")] = 0.0,
    laplacian: Annotated[
        int, typer.Option(help="Make so many octaves of the gradient equally strong; 4 is usual.")
    ] = 0,
    keep_color: Annotated[bool, typer.Option("--keep-color", help="Keep the photograph's colours.")] = False,
    guide: Annotated[Path | None, typer.Option(help="A picture whose features to dream of.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A grey picture, white where the photograph may change.")] = None,
    zoom: Annotated[
        float | None, typer.Option(help="Make a video that falls into the photograph: 1.03 is 3 % a frame.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Of that video.")] = 48,
    rotate: Annotated[float, typer.Option(help="How far it turns in a frame, in degrees.")] = 0.0,
    pan: Annotated[str, typer.Option(help="How far it moves in a frame, DOWN,ALONG as shares of the sides.")] = "0,0",
    fps: Annotated[float | None, typer.Option(help="Frames a second. Left out: the video's own, or 24.")] = None,
    keep: Annotated[float, typer.Option(help="With what share of a video's last dream the next frame begins.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Of the rolls.")] = 0,
    tile: Annotated[int, typer.Option(help="Side in px of the pieces in which a large picture is seen.")] = 640,
    precision: Precision = "auto",
    device: Device = "auto",
    own: Own = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A picture, or .mp4, .webm or .gif. Left out: by name.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Let a network see more of what it sees in a photograph already: DeepDream, still or moving."""
    kind = ".mp4" if zoom is not None or photo.suffix.lower() in FILMS else ".png"
    path = output or photo.with_name(f"{photo.stem}-dream{kind}")
    moving = path.suffix.lower() in fv.VIDEOS
    if zoom is not None and not moving:
        raise fv.SettingError(f"--zoom makes a video, and {path} is none; end the name in {', '.join(fv.VIDEOS)}")
    (fv.check_video if moving else fv.check_output)(path)
    if layer and objective:
        raise fv.SettingError(f"both --layer {layer} and the objective {objective!r} are given; leave one out")
    goal: Any = fv.objectives.Layer(layer) if layer else objective and fv.objectives.parse(objective, _own(own))
    network = _load(model, weights, device, None, None, None)
    settings: dict[str, Any] = {
        "octaves": octaves, "scale": scale, "steps": steps, "strength": strength, "jitter": jitter, "smooth": smooth,
        "laplacian": laplacian, "keep_color": keep_color, "mask": mask and str(mask), "guide": guide, "seed": seed,
        "plan": fv.Plan(None if precision == "auto" else precision, tile=tile),  # type: ignore[arg-type]
        "progress": None if quiet else fv.progress_bar("dream", "frame" if moving else "x10kpx"),
    }  # fmt: skip
    if not moving:
        _finish(fv.dream(network, photo, goal, **settings), path)
        return
    if zoom is None:
        drawn, usual = fv.dream_video(network, photo, goal, keep=keep, **settings), fv.read_video(photo)[0]
    else:
        way = _numbers(pan) or ()
        if len(way) != 2:
            raise fv.SettingError(f"cannot read --pan {pan!r}; give shares down and along, as 0.01,0")
        moves = {"frames": frames, "zoom": zoom, "rotate": rotate, "pan": way}
        drawn, usual = fv.dream_zoom(network, photo, goal, **moves, **settings), 24.0  # type: ignore[arg-type]
    try:
        fv.save_video(drawn, path, fps=usual if fps is None else fps)
    finally:  # also after Ctrl-C: what there is so far is worth having
        if path.is_file():
            typer.echo(path)


@app.command()
def layers(
    model: Model = "motifnet", size: Size = None, mean: Mean = None, std: Std = None, device: Device = "auto"
) -> None:
    """List a network's layers: name, kind, shape, channels, receptive field and stride; downloads nothing."""
    typer.echo(_load(model, "none", device, size, mean, std).layers(_size(size)))


@app.command()
def models() -> None:
    """List what --model takes."""
    names = fv.models()
    from_timm = sum(name.startswith("timm/") for name in names)
    typer.echo("\n".join(name for name in names if not name.startswith("timm/")))
    typer.echo(f"timm/NAME  ({f'{from_timm} of them' if from_timm else 'needs timm'}: timm.list_models())")
    typer.echo("path/to/file.py:factory\npackage.module:factory")


@app.command()
def replay(
    picture: Annotated[Path, typer.Argument(help="A PNG that featviz saved.")],
    model: Annotated[str | None, typer.Option(help="Where the recipe's network is someone's own: its factory.")] = None,
    weights: Annotated[str | None, typer.Option(help="Where the recipe's weights lie elsewhere now.")] = None,
    own: Own = None,
    device: Device = "auto",
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Draw a picture again from the recipe inside it, and say whether it came out the same."""
    path = output or picture.with_name(f"{picture.stem}-replay.png")
    fv.check_output(path)
    recipe = fv.Recipe.of(picture)
    network = None
    if model:
        network = fv.load(model, weights=weights or recipe.weights or "default", device=device, **recipe.expects)
    rendering = fv.replay(
        recipe,
        network=network,
        weights=weights,
        device=device,
        own=_own(own),
        progress=None if quiet else fv.progress_bar("replay"),
    )
    likeness = _likeness(picture, rendering)  # before saving, which may be over the picture itself
    _finish(rendering, path, expected=recipe.until)
    typer.echo(likeness)


@app.command()
def fit_prior(
    folder: Annotated[Path, typer.Argument(help="Images of one kind; all that is below it, too.")],
    channels: Annotated[int, typer.Option(help="1 or 3, or what .npy files hold.")] = 3,
    size: Annotated[int, typer.Option(help="Each image's middle is cut to a square and brought to so many px.")] = 224,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("prior.json"),
) -> None:
    """Learn mean colour, colour correlation and spectrum of one's own images, for --param "Fourier(prior='FILE')"."""
    fv.check_output(output, ".json")
    typer.echo(fv.fit_prior(folder, channels=channels, size=size).save(output))


def _finish(rendering: fv.Rendering, output: Path | None, *, expected: int | None = None) -> None:
    """Save, say where, and pass on a Ctrl-C that ended the render earlier than expected."""
    for file in rendering.save(output or rendering.file_name):
        typer.echo(file)
    if rendering.recipe.until != expected:
        typer.echo(f"stopped at step {rendering.recipe.until} of {rendering.recipe.steps}", err=True)
        raise typer.Exit(130)


def _likeness(picture: Path, rendering: fv.Rendering) -> str:
    """Say whether a picture came out as it was."""
    now = rendering.sheet().transpose(2, 0, 1) / 255.0
    then = fv.read_image(picture, len(now))
    if then.shape != now.shape:
        return "of another size than the picture: was the file changed?"
    most = round(float(abs(then - now).max()) * 255)
    return "the same as the picture, to the byte" if most == 0 else f"within {most} of 255 grey levels of the picture"


def _load(
    model: str,
    weights: str,
    device: str,
    size: str | None,
    mean: str | None,
    std: str | None,
    *,
    smooth_pools: bool = False,
) -> fv.Network:
    """Load a network; a bare module of one's own is taken to expect the size of the picture."""
    given = _size(size) if ":" in model else None
    numbers = _numbers(mean), _numbers(std)
    return fv.load(
        model, weights=weights, device=device, size=given, mean=numbers[0], std=numbers[1], smooth_pools=smooth_pools
    )


def _own(places: list[str] | None) -> dict[str, Any]:
    return {place.rpartition(":")[2]: fv.find(place) for place in places or []}


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() for side in sides):
        raise fv.SettingError(f"cannot read the size {text!r}; give px as 224, or height and width as 160x320")
    return int(sides[0]), int(sides[-1])


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise fv.SettingError(f"cannot read {text!r}; give numbers as 0.5,0.5,0.5") from error


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


if __name__ == "__main__":
    sys.exit(main())
