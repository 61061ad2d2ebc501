"""Load networks of open_clip by name: `open_clip/ViT-B-32/laion2b_s34b_b79k`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featviz.errors import ModelError, WeightsError, first_line, nearest
from featviz.network.loading.downloads import check_reachable
from featviz.network.loading.weights import load_weights
from featviz.network.loading.zero_shot import Tokenizer, ZeroShot, checked_texts
from featviz.network.network import Network

PREFIX = "open_clip/"
"""Start of the names of these networks."""
SCHEMAS = ("hf-hub:", "local-dir:")
"""Prefixes of the names of models on the Hugging Face Hub or in a local folder."""
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
"""Names of weights files on the hub, where open_clip's list names none."""
HUB = "https://huggingface.co"
"""Server of the weights."""
FOLDER = Path("~/.cache/clip")
"""Folder into which open_clip downloads weights that are not on the hub."""


def load_open_clip(model: str, texts: Sequence[str] | None, *, trained: bool, weights: Path | None) -> Network:
    """Load a network of open_clip, whose classes are texts.

    Args:
        model: `open_clip/NAME/WEIGHTS`, with a name and weights of `open_clip.list_pretrained()`; or
            `open_clip/hf-hub:ORGANISATION/REPOSITORY`.
        texts: The classes; `None` for none.
        trained: Whether the weights are those of the name. If false, they are random, and nothing is downloaded.
        weights: File of the weights of the whole model, instead; `None` for none.

    Raises:
        ModelError: open_clip is not installed, or there is no such model.
        WeightsError: The weights cannot be downloaded, or do not fit.
        SettingError: `texts` is not a sequence of different texts that are not empty.
    """
    names = checked_texts(() if texts is None else list(texts))
    open_clip = import_open_clip(model)
    name, tag = split(model)
    _check_names(open_clip, model, name, tag, needs_tag=trained)
    if (trained or name.startswith("hf-hub:")) and not has_weights(model):
        listed = open_clip.get_pretrained_cfg(name, tag)
        check_reachable(model, listed["url"] if listed.get("url") and not listed.get("hf_hub") else HUB)
    with _without_log():
        clip = _create(open_clip, model, name, tag if trained else None, trained=trained)
        if weights is not None:
            load_weights(clip, weights)
        spec = open_clip.get_model_preprocess_cfg(clip)
    size = spec["size"] if isinstance(spec["size"], int) else tuple(spec["size"])
    return Network(
        ZeroShot(clip, _Tokenizer(open_clip, model), names),
        size=size,
        mean=spec["mean"],
        std=spec["std"],
        classes=names,
        name=model,
    )


class _Tokenizer:
    """The tokenizer of a model, which is loaded, and for some models downloaded, when it reads the first text.

    Args:
        open_clip: The package.
        model: As for `load_open_clip`.
    """

    def __init__(self, open_clip: Any, model: str) -> None:
        self.open_clip, self.model = open_clip, model
        self.loaded: Tokenizer | None = None

    def __call__(self, texts: list[str]) -> Tensor:
        """Return the token ids of texts.

        Raises:
            WeightsError: The tokenizer cannot be downloaded.
        """
        if self.loaded is None:
            try:
                with _without_log():
                    self.loaded = self.open_clip.get_tokenizer(split(self.model)[0])
            except (OSError, ValueError, RuntimeError) as error:
                reason = first_line(error)
                raise WeightsError(f"cannot download the tokenizer of {self.model} ({reason})") from error
        return self.loaded(texts)  # type: ignore[misc]


def import_open_clip(model: str) -> Any:
    """Return the package.

    Raises:
        ModelError: open_clip is not installed.
    """
    try:
        with _without_log():
            import open_clip
    except ImportError as error:
        raise ModelError(f"{model} needs open_clip; install it with: pip install 'featviz[clip]'") from error
    return open_clip


def split(model: str) -> tuple[str, str]:
    """Return the name of the architecture and that of the weights; empty for none."""
    rest = model.removeprefix(PREFIX)
    if rest.startswith(SCHEMAS):
        return rest, ""
    name, _, tag = rest.partition("/")
    return name, tag


def is_elsewhere(model: str) -> bool:
    """Return whether open_clip finds a model outside of its own list."""
    return split(model)[0].startswith(SCHEMAS)


def has_weights(model: str) -> bool:
    """Return whether the weights of a model have been downloaded before."""
    try:
        import huggingface_hub

        open_clip = import_open_clip(model)
    except (ImportError, ModelError):
        return False
    name, tag = split(model)
    if name.startswith("local-dir:"):
        return True
    found = open_clip.get_pretrained_cfg(name, tag)
    hub = name.removeprefix("hf-hub:") + "/" if name.startswith("hf-hub:") else found.get("hf_hub", "")
    repository, _, file = hub.rpartition("/")
    files = [file, str(Path(file).with_suffix(".safetensors"))] if file else HUB_FILES
    if repository and any(isinstance(huggingface_hub.try_to_load_from_cache(repository, each), str) for each in files):
        return True
    url = found.get("url", "")
    return bool(url) and (FOLDER.expanduser() / url.rpartition("/")[2]).is_file()


def _check_names(open_clip: Any, model: str, name: str, tag: str, *, needs_tag: bool) -> None:
    """Check that open_clip has a model and its weights.

    Raises:
        ModelError: open_clip has no such model or weights.
    """
    if name.startswith(SCHEMAS):
        return
    known = open_clip.list_models()
    if name not in known:
        raise ModelError(f"no model {name!r} in open_clip{nearest(name, known)} (list all: featviz models)")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if (needs_tag or tag) and tag not in tags:
        what = f"has no weights {tag!r}{nearest(tag, tags)}" if tag else "needs the name of its weights"
        listed = f"{', '.join(tags[:4])}{' …' if len(tags) > 4 else ''}" if tags else "none"
        raise ModelError(f"{model} {what}; write {PREFIX}{name}/WEIGHTS, where WEIGHTS is one of: {listed}")


def _create(open_clip: Any, model: str, name: str, tag: str | None, *, trained: bool) -> nn.Module:
    """Return the model in eval mode.

    Raises:
        WeightsError: The weights cannot be downloaded.
    """
    try:
        return open_clip.create_model(
            name, pretrained=tag or None, load_weights=trained, pretrained_text=False, require_pretrained=trained
        ).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"cannot download the weights of {model} ({first_line(error)}); give a file with --weights"
        ) from error


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep open_clip from printing log messages and, by a handler at the root, from configuring the log."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        yield
    finally:
        root.removeHandler(silent)
