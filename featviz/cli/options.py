"""Options that several commands share, alone and in groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

import featviz as fv
from featviz.cli.loading import load_network

_SIZE_HELP = (
    "Size of the image in px: 224, or 160x320 (height x width). Signals have one length, volumes and video three, e.g. "
    "16x64x64. Default: the network's input size"
)
Size = Annotated[str | None, typer.Option(help=f"{_SIZE_HELP}, smaller for drafts.")]
FullSize = Annotated[str | None, typer.Option("--size", help=f"{_SIZE_HELP}.")]
Quality = Annotated[
    str, typer.Option(help="Quality preset: draft (smaller images, 216 steps), usual (512), best (1536).")
]
Steps = Annotated[int | None, typer.Option(help="Optimisation steps. Default: those of the quality preset.")]
Seed = Annotated[int, typer.Option(help="Random seed of the first image of each unit; image i has this seed + i.")]
Param = Annotated[
    str,
    typer.Option(
        help="Image parameterization: fourier, pyramid, phase, cppn, alpha …, or an expression such as "
        '"Fourier(decay=1.5)".'
    ),
]
Precision = Annotated[
    str,
    typer.Option(help="Precision of the network: float32, bfloat16, or auto for the faster one (measured once)."),
]
Own = Annotated[
    list[str] | None,
    typer.Option(
        help="FILE.py:NAME of your own objective, param or transform, for use by name in expressions; may be given "
        "several times."
    ),
]
Device = Annotated[str, typer.Option(help="auto (the first available of cuda, mps, cpu), cpu, cuda or mps.")]
RenderOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="A .png, .jpg or .webp file for a contact sheet, or a folder for one file per image. Numbers: .npy; "
        "signals: .wav, too; volumes: .nii or .nii.gz; video: .mp4, .webm or .gif. Default: a name made from the "
        "objectives.",
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        help="Samples per second of signals (default: 16000 in .wav files, none in plots), or frames per second of "
        "video (default: 12)."
    ),
]
PageOutput = Annotated[
    str, typer.Option("--output", "-o", help="Folder of the page, or a URL such as s3://bucket/folder.")
]
Classes = Annotated[list[str] | None, typer.Option("--class", help="Class name or index; may be given several times.")]
Photographs = Annotated[Path, typer.Argument(help="Folder of images; its subfolders are included.")]
Download = Annotated[bool, typer.Option("--download", help="Allow downloading the weights that the recipe names.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Option group: a model, and where it runs."""

    model: Annotated[
        str,
        typer.Option(
            help="motifnet, motifvit, phraselstm, phraseformer, a torchvision classifier, inception_v1_lucid, "
            "timm/NAME, open_clip/NAME/WEIGHTS, FILE.py:FACTORY or PACKAGE.MODULE:FACTORY."
        ),
    ] = "motifnet"
    device: Device = "auto"


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Option group: the input specification of a model."""

    input_size: Annotated[
        str | None,
        typer.Option(help="Input size of the network in px, e.g. 224, 160x320 or 16x64x64. Default: the model's own."),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(help="Mean of each channel, in [0, 1] for images, e.g. 0.5,0.5,0.5. Default: the model's own."),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(help="Standard deviation of each channel, e.g. 0.5,0.5,0.5. Default: the model's own."),
    ] = None
    channel_order: Annotated[
        str | None,
        typer.Option(help="Channel order that the model expects: RGB or BGR. Default: the model's own."),
    ] = None
    layout: Annotated[
        str | None,
        typer.Option(help="Dimension order that the model expects: NCHW, NHWC or NTCHW. Default: the model's own."),
    ] = None
    axes: Annotated[
        str | None,
        typer.Option(
            help="Spatial axes: x for signals, yx for images, zyx for volumes, tyx for video. Default: the model's own."
        ),
    ] = None
    value_range: Annotated[
        str | None,
        typer.Option(
            help="Lowest and highest value of signals and volumes, e.g. -1,1. Default: the model's own, or 4 standard "
            "deviations on both sides of the mean."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class UntrainedOptions(InputOptions, ModelOptions):  # the bases from the last to the first, as in the help
    """Option group: a model and its input specification."""

    head: Annotated[
        str | None,
        typer.Option(
            help="Layer or output with the class logits. Default: the network's output; of several, the one with as "
            "many numbers as there are class names."
        ),
    ] = None
    outputs: Annotated[
        str | None,
        typer.Option(
            help="Type of the outputs: classes (one is right), multilabel (independent labels), binary or regression. "
            "Default: binary for a single output, multilabel if the network ends in sigmoids, else classes."
        ),
    ] = None
    class_names: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="File of the class names in output order (for open_clip: of the texts), one per line or as JSON.",
        ),
    ] = None
    dictionary: Annotated[
        list[str] | None,
        typer.Option(
            help="FILE or FILE@LAYER of a dictionary of features, such as a sparse autoencoder; its features are "
            "LAYER~0, LAYER~1 …; may be given several times."
        ),
    ] = None

    def load_untrained(self) -> fv.Network:
        """Load the network with random weights; nothing is downloaded."""
        return load_network(weights="none", **vars(self))


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(UntrainedOptions):
    """Option group: a model, its weights and its input specification."""

    weights: Annotated[
        str,
        typer.Option(
            help="default (the model's own), none (random; a network of your own keeps its weights), or a safetensors "
            "or state_dict FILE."
        ),
    ] = "default"

    def load(self, *, smooth_pools: bool = False, accept_any_size: bool = False) -> fv.Network:
        """Load the network; `load_network` describes the arguments and errors.

        Args:
            smooth_pools: As for `fv.load`.
            accept_any_size: Do not check that the network runs at its input size.

        Returns:
            The network.
        """
        return load_network(smooth_pools=smooth_pools, accept_any_size=accept_any_size, **vars(self))


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Option group: weights and input specification of a judge, the same options as those of a network."""

    judge_weights: Annotated[str, typer.Option(help="Weights of the judge: default, none, or a FILE.")] = "default"
    judge_input_size: Annotated[
        str | None, typer.Option(help="Input size of the judge in px, e.g. 224 or 160x320. Default: the judge's own.")
    ] = None
    judge_mean: Annotated[
        str | None, typer.Option(help="Mean of each channel for the judge, e.g. 0.5,0.5,0.5. Default: the judge's own.")
    ] = None
    judge_std: Annotated[
        str | None, typer.Option(help="Standard deviation of each channel for the judge. Default: the judge's own.")
    ] = None
    judge_channel_order: Annotated[
        str | None, typer.Option(help="Channel order that the judge expects: RGB or BGR. Default: the judge's own.")
    ] = None
    judge_layout: Annotated[
        str | None,
        typer.Option(help="Dimension order that the judge expects: NCHW, NHWC or NTCHW. Default: the judge's own."),
    ] = None
    judge_axes: Annotated[
        str | None, typer.Option(help="Spatial axes of the judge's input, as for --axes. Default: the judge's own.")
    ] = None
    judge_value_range: Annotated[
        str | None, typer.Option(help="Lowest and highest value for the judge, e.g. -1,1. Default: the judge's own.")
    ] = None
    judge_head: Annotated[
        str | None,
        typer.Option(help="Layer or output of the judge with the class logits. Default: as for --head."),
    ] = None
    judge_outputs: Annotated[str | None, typer.Option(help="Type of the judge's outputs, as for --outputs.")] = None
    judge_class_names: Annotated[
        str | None, typer.Option("--judge-classes", help="File with the judge's class names, as for --classes.")
    ] = None

    def load_if_given(self, model: str | None, device: str) -> fv.Network | None:
        """Load the judge where there is one.

        Args:
            model: As for `fv.load`; `None` for no judge.
            device: As for `fv.load`.

        Returns:
            The judge; `None` for none.

        Raises:
            SettingError: There is no judge, and one of its options was given.
        """
        if model is not None:
            return self.load(model, device)
        if self != JudgeOptions():
            raise fv.SettingError(f"{first_given(self)} describes the judge; give --judge MODEL as well")
        return None

    def load(self, model: str, device: str) -> fv.Network:
        """Load the judge; `load_network` describes the errors.

        Args:
            model: As for `fv.load`.
            device: As for `fv.load`.

        Returns:
            The judge.
        """
        return load_network(
            model, device=device, **{name.removeprefix("judge_"): text for name, text in vars(self).items()}
        )


@dataclass(frozen=True, kw_only=True)
class PageStepsOptions:
    """Option group: how long each of the many images of a page is optimised."""

    quality: Annotated[
        str | None,
        typer.Option(help="Number of steps by quality preset: draft (216), usual (512), best (1536)."),
    ] = None
    steps: Annotated[int | None, typer.Option(help="Optimisation steps. Default: those of --quality, or else 256.")] = (
        None
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The steps of each image, as a keyword argument; empty where neither is given, for the function's default.

        Raises:
            SettingError: There is no such preset.
        """
        from featviz.engine import find_preset

        preset = None if self.quality is None else find_preset(self.quality)
        if self.steps is not None:
            return {"steps": self.steps}
        return {} if preset is None else {"steps": preset.steps}


@dataclass(frozen=True, kw_only=True)
class StepsOptions:
    """Option group: how long images are optimised."""

    quality: Quality = "usual"
    steps: Steps = None

    @property
    def settings(self) -> dict[str, Any]:
        """The preset and the steps of each image, as keyword arguments.

        Raises:
            SettingError: There is no such preset.
        """
        from featviz.engine import find_preset

        find_preset(self.quality)
        return {"quality": self.quality, "steps": self.steps}


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """Option group: where images are rendered."""

    backend: Annotated[str, typer.Option(help="local (this process), or ray for a Ray cluster.")] = "local"
    address: Annotated[
        str,
        typer.Option(
            help="Address of the Ray cluster: local starts one on this machine, auto connects to a running one."
        ),
    ] = "local"
    workers: Annotated[int | None, typer.Option(help="Number of Ray workers. Default: one per core or GPU.")] = None

    def open(self) -> fv.RayBackend | None:
        """Return the backend; `None` for this process.

        Raises:
            SettingError: There is no such backend, or an option of Ray is given for this process.
        """
        if self.backend not in ("local", "ray"):
            raise fv.SettingError(f"backend must be local or ray, got {self.backend!r}")
        if self.backend == "local" and self != BackendOptions():
            raise fv.SettingError(f"{first_given(self)} is about a Ray cluster; give --backend ray as well")
        return fv.RayBackend(self.address, self.workers) if self.backend == "ray" else None


@dataclass(frozen=True, kw_only=True)
class MatchOptions:
    """Option group: natural images."""

    match: Annotated[
        str | None,
        typer.Option(
            help="Folder of photographs whose distribution of activations and amplitude spectrum the images match, to "
            "look more natural. A class matches its photograph with the highest score, from the subfolder with its "
            "name or index if there is one; another unit the average of its ten best (at most a tenth of the folder). "
            "batch-norm: match the statistics that the network's batch normalisations store."
        ),
    ] = None
    match_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of --match, in multiples of the unit's score in its best photograph minus that in noise; with "
            "batch-norm, of 1.4 standard deviations of its score in noise. Default: 22."
        ),
    ] = None

    @property
    def settings(self) -> dict[str, Any]:
        """The given options, as keyword arguments.

        Raises:
            SettingError: `--match-weight` is given without `--match`.
        """
        if self.match is None and self.match_weight is not None:
            raise fv.SettingError("--match-weight needs --match; give a folder of photographs, or batch-norm")
        return {name: value for name, value in vars(self).items() if value is not None}


def first_given(group: Any) -> str:
    """Return the first option of a group that was given.

    Args:
        group: The group; one of its options has another value than its default.

    Returns:
        The option, such as `--match-weight`.
    """
    name = next(field.name for field in fields(group) if getattr(group, field.name) != field.default)
    return f"--{name.replace('_', '-')}"


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command that is an option group by the options of the group.

    Typer makes options from the signature of a function. This gives it a signature in which the fields of a group stand
    in place of the group, and collects their values into the group when the command is called.

    Args:
        command: A function with annotated parameters; those annotated by a dataclass are groups.

    Returns:
        The function that Typer registers as the command.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: one.annotation for name, one in signature.parameters.items() if is_dataclass(one.annotation)
    }

    @wraps(command)
    def call(**values: Any) -> None:
        made = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    expanded: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        options = _parameters(groups[name]) if name in groups else [parameter]
        expanded += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    call.__signature__ = signature.replace(parameters=expanded)  # type: ignore[attr-defined]
    return call


def _parameters(group: Any) -> Iterator[inspect.Parameter]:
    """Yield a parameter of a function for each field of a group."""
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        kind = inspect.Parameter.KEYWORD_ONLY
        yield inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])


def progress(quiet: bool, *labels: str) -> Any:
    """Return a progress bar with labels as for `fv.progress_bar`, or `None`."""
    return None if quiet else fv.progress_bar(*labels)
