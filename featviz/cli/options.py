"""Options that several commands share, alone and in groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

import featviz as fv
from featviz.cli.parsing import read_class_names, read_numbers, read_range, read_size

Size = Annotated[
    str | None,
    typer.Option(
        help="Size of the image in px: 224, or 160x320 (height x width). Signals have one length, volumes and video "
        "three, as 16x64x64. Default: the network's input size."
    ),
]
Quality = Annotated[str, typer.Option(help="Quality preset: draft (320 steps), usual (512), best (1536).")]
Match = Annotated[
    str | None,
    typer.Option(
        help="Folder of photographs for natural images: each gets the distribution of activations of the one with the "
        "highest score, in the subfolder named after the class or its index where there is one. Or batch-norm, for the "
        "network's own statistics."
    ),
]
MatchWeight = Annotated[
    float, typer.Option(help="Weight of --match, relative to the gain of the unit's score from noise to the best one.")
]
Steps = Annotated[int | None, typer.Option(help="Optimisation steps. Default: those of the quality preset.")]
Seed = Annotated[int, typer.Option(help="Seed of the first image of each unit; further images count up from it.")]
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
    typer.Option(help="FILE.py:NAME of your own objective, param or transform, to use by name."),
]
Device = Annotated[str, typer.Option(help="auto (the first available of cuda, mps, cpu), cpu, cuda or mps.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="A .png, .jpg or .webp file for a contact sheet, or a folder for one file per image. Default: a name "
        "made from the objectives.",
    ),
]
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
Download = Annotated[bool, typer.Option("--download", help="Allow the download of weights that only the recipe names.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")]


@dataclass(frozen=True, kw_only=True)
class UntrainedOptions:
    """Option group: a model and its input specification."""

    model: Annotated[
        str,
        typer.Option(
            help="motifnet, motifvit, phraselstm, phraseformer, a torchvision classifier, inception_v1_lucid, "
            "timm/NAME, open_clip/NAME/WEIGHTS, FILE.py:FACTORY or PACKAGE.MODULE:FACTORY."
        ),
    ] = "motifnet"
    device: Device = "auto"
    input_size: Annotated[
        str | None,
        typer.Option(help="Input size of the network in px, as 224, 160x320 or 16x64x64. Default: the model's own."),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(help="Mean of each channel in [0, 1], as 0.5,0.5,0.5. Default: the model's own."),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(help="Standard deviation of each channel, as 0.5,0.5,0.5. Default: the model's own."),
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
            help="Lowest and highest value of signals and volumes, as -1,1. Default: the model's own, or 4 standard "
            "deviations on both sides of the mean."
        ),
    ] = None
    head: Annotated[
        str | None, typer.Option(help="Layer or output that puts out the class logits. Default: found by their number.")
    ] = None
    outputs: Annotated[
        str | None,
        typer.Option(help="What the outputs are: classes, multilabel, binary or regression. Default: measured."),
    ] = None
    class_names: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="File with the class names in output order, or the texts of open_clip: one per line, or JSON.",
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
        typer.Option(help="default (the model's own), none (random), or a safetensors or state_dict FILE."),
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
        str | None, typer.Option(help="Input size of the judge in px, as 224 or 160x320. Default: the judge's own.")
    ] = None
    judge_mean: Annotated[
        str | None, typer.Option(help="Mean of each channel for the judge, as 0.5,0.5,0.5. Default: the judge's own.")
    ] = None
    judge_std: Annotated[
        str | None, typer.Option(help="Standard deviation of each channel for the judge. Default: the judge's own.")
    ] = None
    judge_channel_order: Annotated[
        str | None, typer.Option(help="Channel order that the judge expects: RGB or BGR. Default: the judge's own.")
    ] = None
    judge_layout: Annotated[
        str | None, typer.Option(help="Dimension order that the judge expects: NCHW or NHWC. Default: the judge's own.")
    ] = None
    judge_head: Annotated[
        str | None,
        typer.Option(help="Layer or output of the judge that puts out the class logits. Default: found."),
    ] = None
    judge_outputs: Annotated[
        str | None, typer.Option(help="What the judge's outputs are, as for --outputs. Default: measured.")
    ] = None
    judge_class_names: Annotated[
        str | None, typer.Option("--judge-classes", help="File with the judge's class names, as for --classes.")
    ] = None

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
class BackendOptions:
    """Option group: where images are rendered."""

    backend: Annotated[str, typer.Option(help="local (this process), or ray for a Ray cluster.")] = "local"
    address: Annotated[
        str, typer.Option(help="Address of the Ray cluster: local starts one, auto finds one that runs.")
    ] = "local"
    workers: Annotated[int | None, typer.Option(help="Number of Ray workers. Default: one per core or GPU.")] = None

    def open(self) -> fv.RayBackend | None:
        """Return the backend; `None` for this process.

        Raises:
            SettingError: There is no such backend.
        """
        if self.backend not in ("local", "ray"):
            raise fv.SettingError(f"backend must be local or ray, got {self.backend!r}")
        return fv.RayBackend(self.address, self.workers) if self.backend == "ray" else None


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


def load_network(
    model: str,
    *,
    weights: str,
    device: str,
    input_size: str | None,
    mean: str | None,
    std: str | None,
    channel_order: str | None,
    layout: str | None,
    head: str | None,
    outputs: str | None,
    class_names: str | None,
    axes: str | None = None,
    value_range: str | None = None,
    dictionary: Sequence[str] | None = None,
    smooth_pools: bool = False,
    accept_any_size: bool = False,
) -> fv.Network:
    """Load a network from the text of its options.

    Args:
        model: As for `fv.load`.
        weights: As for `fv.load`.
        device: As for `fv.load`.
        input_size: As for `read_size`; `None` for the model's own.
        mean: As for `read_numbers`; `None` for the model's own.
        std: As for `read_numbers`; `None` for the model's own.
        channel_order: `RGB` or `BGR`; `None` for the model's own.
        layout: `NCHW`, `NHWC` or `NTCHW`; `None` for the model's own.
        head: As for `fv.load`.
        outputs: As for `fv.load`.
        class_names: File of class names; `None` for the model's own.
        axes: As for `fv.load`.
        value_range: As for `read_range`; `None` for the model's own.
        dictionary: Files of dictionaries, each followed by `@` and a layer where the file does not name it.
        smooth_pools: As for `fv.load`.
        accept_any_size: Do not check that the network runs at its input size.

    Returns:
        The network.

    Raises:
        ModelError: There is no such model, or it does not run at `input_size`.
        WeightsError: The weights cannot be read, downloaded or loaded into the model.
        SettingError: An option is out of its range.
    """
    from featviz.checks import check_size
    from featviz.interfaces import as_size

    given, is_own = read_size(input_size), ":" in model  # a module of the user may have no size of its own
    network = fv.load(
        model,
        weights=weights,
        device=device,
        input_size=given if is_own else None,
        mean=read_numbers(mean),
        std=read_numbers(std),
        channel_order=channel_order and channel_order.upper(),
        layout=layout and layout.upper(),
        axes=axes,
        value_range=read_range(value_range),
        head=head,
        outputs=outputs,
        classes=None if class_names is None else read_class_names(Path(class_names)),
        smooth_pools=smooth_pools,
    )
    size = network.size if given is None else as_size(given, len(network.size))
    if size != network.size:
        check_size("input_size", size)
        if len(size) != len(network.size):
            raise fv.SettingError(f"input_size must have {len(network.size)} number(s) for {model}, got {size}")
        if not accept_any_size:
            network.check_size(size)
        network = network.with_input(size=size)
    for text in dictionary or ():
        network = attach_dictionary(network, text)
    return network


def attach_dictionary(network: fv.Network, text: str) -> fv.Network:
    """Attach the dictionary of a file to a layer.

    Args:
        network: The network.
        text: `FILE`, or `FILE@LAYER`.

    Returns:
        The network with the dictionary.

    Raises:
        WeightsError: The file cannot be read.
        AddressError: There is no such layer, or it has another number of channels.
        SettingError: Neither the text nor the file names the layer.
    """
    from featviz.io import is_file, is_folder

    file, at, layer = (text, "", "") if is_file(text) or is_folder(text) else text.rpartition("@")
    loaded = fv.Dictionary.load(file if at else text)
    if not (layer or loaded.layer):
        raise fv.SettingError(f"{text} does not name its layer; give --dictionary {text}@LAYER")
    return network.with_dictionary(layer or loaded.layer, loaded)


def output_file(output: Path | None, name: str, *, page: bool = False) -> Path:
    """Return the file to write, and check that it can be written.

    Args:
        output: A file, which is replaced if it is there; an existing folder; or `None` for the current folder.
        name: File name for a folder. It gets a number where there is such a file already. Where it ends in .json or
            .html, the file must end so, too.
        page: Whether a .html file can be written as well as an image.

    Raises:
        OutputError: The file cannot be written.
    """
    from featviz.io import check_output, free_path, is_folder
    from featviz.io.files import IMAGE_ENDINGS

    folder, own = Path() if output is None else output, Path(name).suffix
    path = free_path(folder / name) if is_folder(folder) else folder
    if own in (".json", ".html"):
        check_output(path, own)
    else:
        check_output(path, *([".html", *IMAGE_ENDINGS] if page else []))
    return path


def name_in(folder: Path, file: Path) -> str:
    """Return the stem of a file with the subfolders in which it lies, so that equal names in two of them differ."""
    return "_".join([*file.relative_to(folder).parent.parts, file.stem])


def readable_files(folder: Path) -> Iterator[Path]:
    """Yield the images of a folder that can be read, and print which are skipped.

    Args:
        folder: The folder; its subfolders are included.

    Raises:
        OutputError: It has no image.
    """
    from featviz.io import images_in, read_image

    for file in list(images_in(folder)):  # before results are written into the same folder
        try:
            if file.suffix.lower() != ".npy":
                read_image(file, 4)
        except fv.FeatvizError as error:
            typer.echo(f"featviz: skipped {file}: {error}", err=True)
        else:
            yield file


def steps_of(quality: str | None, steps: int | None) -> dict[str, Any]:
    """Return the steps of each image, as a keyword argument for a function of featviz.

    Args:
        quality: Quality preset; `None` for none.
        steps: Number that replaces those of the preset; `None` to keep them.

    Returns:
        `{"steps": …}`; empty if both are `None`, so that the function's default holds.

    Raises:
        SettingError: There is no such preset.
    """
    from featviz.engine import preset

    found = {} if quality is None else {"steps": int(preset(quality)["steps"])}
    return found if steps is None else {"steps": steps}


def progress(quiet: bool, *labels: str) -> Any:
    """Return a progress bar with labels as for `fv.progress_bar`, or `None`."""
    return None if quiet else fv.progress_bar(*labels)
