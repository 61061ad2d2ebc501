"""Load networks by name: the bundled ones, torchvision's, timm's, and the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featviz.checks import check_size
from featviz.errors import ModelError, SettingError, WeightsError, nearest, shown
from featviz.interfaces import Size
from featviz.io import is_file
from featviz.network import bundled
from featviz.network.heads import in_output_order
from featviz.network.loading import inception_v1
from featviz.network.loading.downloads import check_reachable
from featviz.network.loading.open_clip_models import PREFIX as OPEN_CLIP
from featviz.network.loading.open_clip_models import has_weights, is_elsewhere, load_open_clip
from featviz.network.loading.weights import DEFAULT_WEIGHTS, RANDOM_WEIGHTS, load_weights
from featviz.network.network import Network
from featviz.network.neutral_state import neutral_state
from featviz.network.outputs import OUTPUT

TIMM = "timm/"
"""Prefix of the names of timm's models."""
TIMM_SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")
"""Prefixes of the names of timm's models on the Hugging Face Hub or in a local folder."""
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights files in the cache of huggingface_hub."""
INPUT_CONVERTING_MODELS = ("googlenet", "inception_v3")
"""Models of torchvision that were trained with another normalisation and convert to it with `transform_input=True`."""
AUXILIARY_HEAD_PREFIXES = ("aux1.", "aux2.", "AuxLogits.")
"""Prefixes of the weights of their training heads, which not every weights file has."""
IMAGENET_CLASSES = 1000


@neutral_state()
def load(
    model: str = "motifnet",
    *,
    weights: str | Path = DEFAULT_WEIGHTS,
    device: str = "auto",
    input_size: int | Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    channel_order: str | None = None,
    layout: str | None = None,
    axes: str | None = None,
    value_range: tuple[float, float] | None = None,
    head: str | None = None,
    outputs: str | None = None,
    smooth_pools: bool = False,
) -> Network:
    """Load a network by name.

    Args:
        model: `motifnet`, `motifvit`, `phraselstm`, `phraseformer`, a torchvision classifier, `inception_v1_lucid`
            (InceptionV1 with the layer names of Lucid and the Circuits papers), `timm/NAME`, `open_clip/NAME/WEIGHTS`
            (see `fv.zero_shot`), `path/to/file.py:factory` or `package.module:factory`, where the factory returns an
            `nn.Module` or a `Network`.
        weights: `"default"` for the model's own, `"none"` for random ones, or a safetensors or state_dict file.
        device: A torch device, or `"auto"` for the first available one of cuda, mps and cpu.
        input_size: Height and width of the input in px, or one side; `None` for the model's own. A bare module of the
            user needs it. `(4096,)` for signals, `(32, 64, 64)` for volumes and video.
        mean: Mean of each channel, in [0, 1] for images; `None` for the model's own.
        std: Standard deviation of each channel, > 0; `None` for the model's own.
        classes: Class names in output order, or by index from 0; `None` for the model's own. For open_clip, the texts
            that are the classes.
        channel_order: Order in which the module expects the channels, `"RGB"` or `"BGR"`; `None` for the model's own.
        layout: Dimension order of a batch that the module expects, `"NCHW"`, `"NHWC"` or `"NTCHW"`; `None` for the
            model's own.
        axes: Names of the spatial axes: `"tyx"` for video; `None` for the model's own, or to determine them from their
            number.
        value_range: Lowest and highest value of signals and volumes; `None` for the model's own.
        head: Layer, or output as `output.1`, that outputs the class logits; `None` for the network's output.
        outputs: What the outputs are: `"classes"`, `"multilabel"`, `"binary"` or `"regression"`; `None` to determine
            them from the network, as `fv.Network` does.
        smooth_pools: Spread the gradient of max pooling over the whole window, which removes its grid pattern.

    Returns:
        The network.

    Raises:
        ModelError: There is no such model or device, or the model cannot be built.
        WeightsError: The weights cannot be read or downloaded, or do not fit.
        SettingError: A value of the input specification is out of its range.
    """
    if input_size is not None and axes:
        input_size = check_size("input_size", input_size, len(axes))
    given: dict[str, Any] = {"size": input_size, "mean": mean, "std": std, "channel_order": channel_order}
    given |= {"layout": layout, "axes": axes, "value_range": value_range}
    given = {key: value for key, value in given.items() if value is not None}
    if classes is not None:
        classes = in_output_order(classes)
    with _fixed_seed():
        network = _build(model, weights, given, classes)
    if isinstance(network.module, inception_v1.InceptionV1) and weights != RANDOM_WEIGHTS:
        published = weights == DEFAULT_WEIGHTS
        inception_v1.load_published(network.module, inception_v1.WEIGHTS.fetch() if published else Path(weights))
        if classes is None and (published or inception_v1.LABELS.is_here()):
            with suppress(WeightsError):  # without the names, classes are addressed by number
                classes = inception_v1.class_names()
    elif weights not in (DEFAULT_WEIGHTS, RANDOM_WEIGHTS) and not model.startswith(OPEN_CLIP):
        optional = AUXILIARY_HEAD_PREFIXES if model in INPUT_CONVERTING_MODELS else ()
        load_weights(network.module, Path(weights), optional_prefixes=optional)
    if network.tokens is not None and given:
        names = ", ".join("input_size" if name == "size" else name for name in given)
        raise SettingError(f"{model} reads text, which has no {names}; leave out {names}")
    if input_size is not None:
        given["size"] = check_size("input_size", input_size, len(network.size))
    heads = network.given_heads
    if head is not None or classes is not None:
        heads = _chosen_head(network, head, classes)
    network.module.to(_device(device))
    network = network.with_input(**given) if given else network
    return network._labelled(
        model, str(weights), heads, outputs or network.outputs, smooth_pools or network.smooth_pools
    )


def _chosen_head(network: Network, head: str | None, classes: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Return the only head of a network, and its class names.

    Args:
        network: The network, with one head or several.
        head: Layer or output of the head; `None` for that of the network.
        classes: Class names; `None` for those of the network.

    Raises:
        SettingError: The network has several heads, and `head` does not say whose class names are given.
    """
    if OUTPUT in network.heads:
        return {
            network.head if head is None else head: network.classes if classes is None else in_output_order(classes)
        }
    if head is None:
        raise SettingError(
            f"{network.label} has the heads {', '.join(network.heads)}; give head (--head) as well as the class names"
        )
    return {head: network.heads.get(head, ()) if classes is None else in_output_order(classes)}


def models() -> list[str]:
    """List the names of models for `load`: bundled, torchvision's, Lucid's, and timm's and open_clip's if installed."""
    import torchvision

    names = [*bundled.BUNDLED, *torchvision.models.list_models(module=torchvision.models), inception_v1.NAME]
    if importlib.util.find_spec("timm"):
        import timm

        names += [f"{TIMM}{name}" for name in timm.list_models()]
    if importlib.util.find_spec("open_clip"):
        import open_clip

        names += [f"{OPEN_CLIP}{name}/{tag}" for name, tag in open_clip.list_pretrained()]
    return names


def is_user_model(model: str) -> bool:
    """Return whether a name for `load` is a factory of the user: `path/to/file.py:factory` or `package.module:factory`.

    Args:
        model: A name for `load`. Names of timm and open_clip may hold a colon, too: `timm/hf-hub:...`.
    """
    return ":" in model and not model.startswith((TIMM, OPEN_CLIP))


def is_on_this_machine(model: str, weights: str | Path = DEFAULT_WEIGHTS) -> bool:
    """Return whether `load` needs to download nothing.

    Args:
        model: A name for `load`.
        weights: As for `load`.
    """
    if model.startswith(TIMM):
        return (weights != DEFAULT_WEIGHTS and not _is_elsewhere(model)) or _has_weights_of_timm(
            model.removeprefix(TIMM)
        )
    if model.startswith(OPEN_CLIP):
        return (weights != DEFAULT_WEIGHTS and not is_elsewhere(model)) or has_weights(model)
    if is_user_model(model) or model in bundled.BUNDLED or weights != DEFAULT_WEIGHTS:
        return True
    if model == inception_v1.NAME:
        return inception_v1.WEIGHTS.is_here()
    from torchvision import models as zoo

    return model not in zoo.list_models(module=zoo) or _is_in_hub_cache(zoo.get_model_weights(model).DEFAULT.url)


def find(source: str) -> Callable[..., Any]:
    """Import an object from `path/to/file.py:name` or `package.module:name`. This runs the file.

    Only text that the user typed may be passed here, never text from a recipe or another file.

    Args:
        source: The file or module, a colon, and the name of the object.

    Returns:
        The object.

    Raises:
        ModelError: There is no such file, module or name.
    """
    origin, colon, name = source.rpartition(":")
    if not colon or not name:
        raise ModelError(f"{shown(source)} names a file only; name the value in it, too: {source.rstrip(':')}:NAME")
    module = _run_file(Path(origin)) if origin.endswith(".py") else _import_module(origin, name)
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(f"no {name!r} in {origin}{nearest(name, known)}")
    return getattr(module, name)


# ---------------------------------------------------------------------------------------------- building a model


@contextmanager
def _fixed_seed() -> Iterator[None]:
    """Draw the same initial weights every time, and leave the caller's random state untouched."""
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(0)
        yield
    finally:
        torch.set_rng_state(state)


def _build(model: str, weights: str | Path, given: Mapping[str, Any], classes: Sequence[str] | None) -> Network:
    """Build a network by name, with its own weights if `weights` is `"default"`, else with random ones.

    Networks of open_clip get the weights of a file here, as those embed the texts.
    """
    if model.endswith(".py"):
        raise ModelError(f"{model} is a file; name the function in it that returns the network: {model}:factory")
    trained = weights == DEFAULT_WEIGHTS
    if model.startswith(TIMM):
        return _timm(model, trained=trained)
    if model.startswith(OPEN_CLIP):
        file = None if weights in (DEFAULT_WEIGHTS, RANDOM_WEIGHTS) else Path(weights)
        return load_open_clip(model, classes, trained=trained, weights=file)
    if is_user_model(model):
        return _from_factory(model, given)
    if model in bundled.BUNDLED:
        return bundled.network(model, trained=trained)
    if model == inception_v1.NAME:
        return inception_v1.network()
    return _torchvision(model, trained=trained)


def _torchvision(model: str, *, trained: bool) -> Network:
    from torchvision import models as zoo

    if model not in zoo.list_models(module=zoo):
        raise ModelError(f"no model {model!r}{nearest(model, models())} (list all: featviz models)")
    enum = zoo.get_model_weights(model).DEFAULT
    preprocessing = enum.transforms()
    size = preprocessing.crop_size[0]
    # Without weights, torchvision's builders use defaults that differ from those of the trained model.
    options: dict[str, Any] = {}
    if not trained and model in INPUT_CONVERTING_MODELS:
        options = {"transform_input": True, "aux_logits": False, "init_weights": False}
    elif not trained and model.startswith("vit_"):
        options = {"image_size": size}
    try:
        module = zoo.get_model(model, weights=enum if trained else None, **options)
    except OSError as error:  # the base class of urllib's errors
        raise WeightsError(f"cannot download the weights of {model} ({error}); give a file with --weights") from error
    return Network(module, size=size, mean=preprocessing.mean, std=preprocessing.std, classes=enum.meta["categories"])


def _timm(model: str, *, trained: bool) -> Network:
    try:
        import timm
    except ImportError as error:
        raise ModelError(f"{model} needs timm; install it with: pip install 'featviz[timm]'") from error
    name = model.removeprefix(TIMM)
    if not _is_elsewhere(model) and not timm.is_model(name):
        raise ModelError(f"no model {name!r} in timm{nearest(name, timm.list_models())}")
    if trained:
        _check_connection(name)
    try:
        module = timm.create_model(name, pretrained=trained)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"cannot download the weights of {model} ({error}); give a file with --weights") from error
    preprocessing = timm.data.resolve_model_data_config(module)
    height, width = preprocessing["input_size"][1:]
    classes: Sequence[str] = ()
    if module.num_classes == IMAGENET_CLASSES:  # timm has no class names; torchvision has ImageNet's
        from torchvision.models import MobileNet_V2_Weights

        classes = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    return Network(module, size=(height, width), mean=preprocessing["mean"], std=preprocessing["std"], classes=classes)


def _check_connection(name: str) -> None:
    """Check that the server of the weights can be reached, unless they were downloaded before.

    Args:
        name: Name of a model of timm.

    Raises:
        WeightsError: The weights were not downloaded before, and nothing answers.
    """
    if name.startswith("local-dir:") or _has_weights_of_timm(name):
        return
    import timm
    from huggingface_hub.constants import ENDPOINT

    found = None if name.startswith(TIMM_SOURCES) else timm.models.get_pretrained_cfg(name)
    check_reachable(f"{TIMM}{name}", ENDPOINT if found is None or found.hf_hub_id else found.url)


def _is_elsewhere(model: str) -> bool:
    """Return whether a name refers to the Hugging Face Hub or a local folder, which timm checks itself."""
    return model.removeprefix(TIMM).startswith(TIMM_SOURCES)


def _has_weights_of_timm(name: str) -> bool:
    """Return whether the weights of a model of timm have been downloaded before."""
    try:
        import huggingface_hub
        import timm
    except ImportError:
        return False
    found = None if name.startswith(TIMM_SOURCES) else timm.models.get_pretrained_cfg(name)
    if found is None:
        return name.startswith("local-dir:")
    if not found.hf_hub_id:
        return bool(found.url) and _is_in_hub_cache(found.url)
    files = (huggingface_hub.try_to_load_from_cache(found.hf_hub_id, file) for file in HUB_FILES)
    return any(isinstance(file, str) for file in files)


def _is_in_hub_cache(url: str) -> bool:
    """Return whether `torch.hub` has downloaded a file before."""
    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2]).is_file()


def _from_factory(model: str, given: Mapping[str, Any]) -> Network:
    """Call a factory function of the user. The given input specification is that of a bare module."""
    factory = find(model)
    if not callable(factory) or isinstance(factory, nn.Module):
        raise ModelError(f"{model} must be a function that returns the network, got {type(factory).__name__}")
    with suppress(ValueError):  # of a function without a signature
        try:
            inspect.signature(factory).bind()
        except TypeError as error:
            raise ModelError(
                f"{model} must be a function without arguments: {error}; give them default values"
            ) from error
    with _running_code_of(model):
        made = factory()
    if isinstance(made, Network):
        return made
    if not isinstance(made, nn.Module):
        raise ModelError(f"{model} returned {type(made).__name__}; return an nn.Module or a featviz.Network")
    if not {"size", "mean", "std"} <= given.keys():
        raise ModelError(
            f"{model} returned a bare module, which needs input_size, mean and std (--input-size 32 "
            "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; for a judge --judge-input-size …); or return a featviz.Network"
        )
    return Network(made, **given)


def _device(name: str | int | torch.device) -> torch.device:
    name = f"cuda:{name}" if isinstance(name, int) else str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # raised for unknown names and for missing hardware
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError("no CUDA GPU found; leave out --device, or give --device cpu") from error
        raise ModelError(f"no device {name!r} found; give auto, cpu, cuda or mps") from error
    return device


# ---------------------------------------------------------------------------------------------- importing


def _import_module(source: str, name: str) -> Any:
    if not all(part.isidentifier() for part in source.split(".")):
        raise ModelError(f"no module {shown(source)}; give path/to/file.py:{name or 'NAME'} or package.module:NAME")
    try:
        with _importing_from(Path.cwd()), _running_code_of(source):
            return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name and not f"{source}.".startswith(f"{error.name}."):
            raise  # the module was found, but it imports one that is missing: that error is more helpful
        raise ModelError(f"no module {source!r}; give path/to/file.py:{name} or package.module:{name}") from error


def _run_file(path: Path) -> Any:
    if not is_file(path):
        raise ModelError(f"no file {path}; give path/to/file.py:factory")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"cannot import {path}; give a Python file")
    module = importlib.util.module_from_spec(spec)
    is_new = sys.modules.setdefault(path.stem, module) is module  # dataclasses and pickle look the module up
    try:
        with _importing_from(path.parent), _running_code_of(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        if is_new:
            sys.modules.pop(path.stem, None)
        raise
    return module


@contextmanager
def _running_code_of(source: str) -> Iterator[None]:
    """Name the user's file or function in the errors that its code raises, and refuse that it ends the process.

    The working folder is restored, to which relative paths of options refer.
    """
    folder = Path.cwd()
    try:
        yield
    except SystemExit as error:
        raise ModelError(
            f"{source} ended with sys.exit({error.code!r}), as argparse does; put what it does as a script under "
            'if __name__ == "__main__":'
        ) from error
    except Exception as error:
        error.add_note(f"while running {source}")
        raise
    finally:
        os.chdir(folder)


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Make modules of a folder importable, as Python does for the folder of a script."""
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        with suppress(ValueError):  # the module removed it
            sys.path.remove(place)
