"""Networks by name: the embedded one, torchvision's, timm's, and one's own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featviz.errors import ModelError, WeightsError, nearest
from featviz.interfaces import Size
from featviz.network.activations import OUTPUT
from featviz.network.network import Network
from featviz.network.weights import load_weights

CONVERTING = ("googlenet", "inception_v3")
"""torchvision's two that were trained on another normalisation, and convert to it when told to."""
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Their heads for training, which some files hold and some do not."""
BUNDLED = ("motifnet", "motifvit")
"""Those that ship in the package."""
OWN_WEIGHTS = "default"
UNTRAINED = "none"


def load(
    model: str = "motifnet",
    *,
    weights: str | Path = OWN_WEIGHTS,
    device: str = "auto",
    input_size: int | Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    channel_order: str | None = None,
    layout: str | None = None,
    smooth_pools: bool = False,
) -> Network:
    """Load a network by name.

    Args:
        model: `motifnet`, `motifvit`, a torchvision classifier, `timm/NAME`, `path/to/file.py:factory` or
            `package.module:factory`, whose factory returns an `nn.Module` or a `Network`.
        weights: `"default"` for the model's own, `"none"` for random ones, or a safetensors or state_dict file.
        device: `"auto"` for the first of cuda, mps, cpu that is there, or a torch device.
        input_size: Height and width in px, or one side, of the images that a bare module of the user was trained on; any
            other model knows its own.
        mean: of each channel; `None` means what the model says.
        std: of each channel; `None` means what the model says.
        classes: names in output order; `None` means what the model says.
        channel_order: `"RGB"` or `"BGR"`, in which the module wants channels; `None` means what the model says.
        layout: `"NCHW"` or `"NHWC"`, in which it wants a batch; `None` means what the model says.
        smooth_pools: spread the gradient of maximum pools over all that they see, which takes their grid away.

    Raises:
        ModelError: there is no such model, or it cannot be built.
        WeightsError: the weights cannot be read, downloaded or fitted.
    """
    if model.endswith(".py"):
        raise ModelError(f"{model} is a file; name the function in it that makes the network, as {model}:factory")
    state = torch.get_rng_state()  # building draws random weights: always the same, and none of the caller's numbers
    try:
        torch.default_generator.manual_seed(0)
        if ":" in model:
            network = _own(model, input_size, mean, std)
        elif model.startswith("timm/"):
            network = _timm(model, pretrained=weights == OWN_WEIGHTS)
        elif model in BUNDLED:
            network = _bundled(model, weights)
        else:
            network = _torchvision(model, weights)
    finally:
        torch.set_rng_state(state)
    if weights not in (OWN_WEIGHTS, UNTRAINED):
        load_weights(network.module, Path(weights), spare=AUXILIARY if model in CONVERTING else ())
    given = {"mean": mean, "std": std, "channel_order": channel_order, "layout": layout}
    spec = replace(network.input, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    return Network(
        network.module.to(_device(device)),
        **vars(spec),
        classes=network.classes if classes is None else classes,
        name=model,
        weights=str(weights),
        heads=None if OUTPUT in network.heads else network.heads,
        smooth_pools=smooth_pools or network.smooth_pools,
    )


def models() -> list[str]:
    """List the names that `load` takes without a file: `BUNDLED`, torchvision's classifiers, timm's if installed."""
    import torchvision

    names = [*BUNDLED, *torchvision.models.list_models(module=torchvision.models)]
    if importlib.util.find_spec("timm"):
        import timm

        names += [f"timm/{name}" for name in timm.list_models()]
    return names


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's words for a device that is not there
        raise ModelError(f"no device {name!r} here; give auto, cpu, cuda or mps") from error
    return device


def _bundled(model: str, weights: str | Path) -> Network:
    from featviz.network import bundled

    return bundled.network(model, trained=weights == OWN_WEIGHTS)


def _torchvision(model: str, weights: str | Path) -> Network:
    from torchvision import models as zoo

    if model not in zoo.list_models(module=zoo):
        raise ModelError(f"no model {model!r}{nearest(model, models())} (featviz models lists all)")
    enum = zoo.get_model_weights(model).DEFAULT
    expects = enum.transforms()
    size = expects.crop_size[0]
    options: dict[str, Any] = {}
    if weights != OWN_WEIGHTS and model in CONVERTING:
        options = {"transform_input": True, "aux_logits": False, "init_weights": False}
    elif weights != OWN_WEIGHTS and model.startswith("vit_"):
        options = {"image_size": size}
    try:
        module = zoo.get_model(model, weights=enum if weights == OWN_WEIGHTS else None, **options)
    except OSError as error:  # urllib's errors are OSErrors
        raise WeightsError(f"cannot download the weights of {model} ({error}); give a file with --weights") from error
    return Network(module, size=size, mean=expects.mean, std=expects.std, classes=enum.meta["categories"])


def _timm(model: str, *, pretrained: bool) -> Network:
    try:
        import timm
    except ImportError as error:
        raise ModelError(f"{model} needs timm; install it with: pip install 'featviz[timm]'") from error
    name = model.removeprefix("timm/")
    if not timm.is_model(name):
        raise ModelError(f"no model {name!r} in timm{nearest(name, timm.list_models())}")
    try:
        module = timm.create_model(name, pretrained=pretrained)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"cannot get the weights of {model} ({error}); give a file with --weights") from error
    expects = timm.data.resolve_model_data_config(module)
    height, width = expects["input_size"][1:]
    classes: Sequence[str] = ()
    if module.num_classes == 1000:
        from torchvision.models import MobileNet_V2_Weights

        classes = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    return Network(module, size=(height, width), mean=expects["mean"], std=expects["std"], classes=classes)


def _own(model: str, size: int | Size | None, mean: Sequence[float] | None, std: Sequence[float] | None) -> Network:
    factory = find(model)
    if not callable(factory):
        raise ModelError(f"{model} is {type(factory).__name__}; name a function that makes the network")
    made = factory()
    if isinstance(made, Network):
        return made
    if not isinstance(made, nn.Module):
        raise ModelError(f"{model} returned {type(made).__name__}; return an nn.Module or a featviz.Network")
    if not (size and mean and std):
        raise ModelError(
            f"{model} is a bare module: say what it expects with size, mean and std "
            "(--size 32 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; of a judge --by-size …), or return a featviz.Network"
        )
    return Network(made, size=size, mean=mean, std=std)


def find(place: str) -> Callable[..., Any]:
    """Import `path/to/file.py:name` or `package.module:name`. This runs the file: it is the user who names it.

    Raises:
        ModelError: there is no such file, module or name.
    """
    source, _, name = place.rpartition(":")
    if source.endswith(".py"):
        module = _run_file(Path(source))
    else:
        try:
            with _importing_from(Path.cwd()):
                module = importlib.import_module(source)
        except ModuleNotFoundError as error:
            if error.name and not f"{source}.".startswith(f"{error.name}."):
                raise  # found, but something that it imports is missing: that error says more
            raise ModelError(f"no module {source!r}; give path/to/file.py:{name} or package.module:{name}") from error
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(f"no {name!r} in {source}{nearest(name, known)}")
    return getattr(module, name)


def _run_file(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"no file {path}; give path/to/file.py:factory")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"cannot import {path}; give a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickling look the module up
    with _importing_from(path.parent):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let modules in a folder be imported, as they are when Python runs a file there."""
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))
