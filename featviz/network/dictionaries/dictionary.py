"""A dictionary: features of a layer as linear combinations of its channels, with an encoder and a decoder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import as_whole, check_text
from featviz.errors import SettingError, nearest, shown
from featviz.network.dictionaries.codes import Codec
from featviz.network.dictionaries.kinds import LINEAR, WITH_K, WITH_THRESHOLD, Kind

_VECTORS = {"bias": 0.0, "gain": 1.0, "shift": 0.0, "threshold": 0.0}
"""Fields with one number per feature, and the number that `None` stands for."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Dictionary:
    """Features of a layer: an encoder from activations to codes, and a decoder back.

    At each position of the layer, `pre = encoder · x + bias`. The code of a feature is `gain · pre + shift` where `pre`
    exceeds the threshold of the feature and, with `k`, is among the `k` largest of the position; else it is 0. The
    codes of `pca`, `ica` and `probe` are `pre` itself, of either sign. Those of `nmf` solve a least-squares problem
    with codes >= 0. The activations are approximated by `codes · decoder + offset`.

    Attach it with `network.with_dictionary(layer, dictionary)`; its features are then addressed as `layer~5`.

    Args:
        kind: `"relu"`, `"topk"`, `"batchtopk"`, `"jumprelu"`, `"gated"` (sparse autoencoders), `"nmf"`, `"pca"`,
            `"ica"`, `"kmeans"` or `"probe"` (linear directions, such as concept activation vectors).
        encoder: (features, channels). A mean that is subtracted from the activations first belongs in the bias:
            `-encoder · mean`.
        decoder: (features, channels); `None` for the pseudo-inverse of the encoder.
        bias: One number per feature; `None` for 0.
        offset: One number per channel; `None` for 0.
        gain: One number > 0 per feature; `None` for 1.
        shift: One number per feature; `None` for 0.
        threshold: One number per feature; `None` for 0. Values below `-shift / gain`,
            where the code would be negative, are raised to it.
        k: Largest number of codes above 0 at a position, >= 1; needed for `topk`.
        layer: Name of the layer whose activations it encodes; empty if that is not known.
        facts: Numbers that `fv.fit_dictionary` measured, such as `"explained_variance"`.
        file: File from which it was read, for recipes; empty for a dictionary made in Python.

    Raises:
        SettingError: There is no such kind, shapes do not match, or a number is NaN or infinite.

    Source: SAELens, sae_lens/saes: `standard_sae.py`, `topk_sae.py`, `jumprelu_sae.py`, `gated_sae.py`.
    Differs: a code of k-means is the length of the projection on the nearest centre, divided by the centre's
    length, instead of 1, so that it has a gradient.
    """

    kind: str
    encoder: Float[Tensor, "features channels"]
    decoder: Float[Tensor, "features channels"] | None = None
    bias: Float[Tensor, " features"] | None = None
    offset: Float[Tensor, " channels"] | None = None
    gain: Float[Tensor, " features"] | None = None
    shift: Float[Tensor, " features"] | None = None
    threshold: Float[Tensor, " features"] | None = None
    k: int | None = None
    layer: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)
    file: str = ""

    def __post_init__(self) -> None:
        """Convert the numbers to single precision on the CPU, and check them."""
        _check_kind(self.kind)
        check_text("layer of Dictionary", self.layer)
        encoder = _numbers("encoder", self.encoder)
        if encoder.ndim != 2 or not encoder.numel():
            raise SettingError(f"encoder must have shape (features, channels), got {tuple(encoder.shape)}")
        count, channels = encoder.shape
        vectors = {name: self._vector(name, count, otherwise) for name, otherwise in _VECTORS.items()}
        vectors["offset"] = self._vector("offset", channels, 0.0)
        decoder = torch.linalg.pinv(encoder).T if self.decoder is None else _numbers("decoder", self.decoder)
        if decoder.shape != encoder.shape:
            raise SettingError(
                f"decoder must have the shape {tuple(encoder.shape)} of the encoder, got {tuple(decoder.shape)}"
            )
        if not bool((vectors["gain"] > 0).all()):
            raise SettingError("gain must be > 0 for every feature; change the sign of the encoder's rows instead")
        # Below the threshold -shift / gain the code would be negative.
        if self.kind in WITH_THRESHOLD:
            vectors["threshold"] = torch.maximum(vectors["threshold"], -vectors["shift"] / vectors["gain"])
        vars(self).update(
            encoder=encoder, decoder=decoder.contiguous(), **vectors, k=_count_of(self.kind, self.k, count)
        )

    def _vector(self, name: str, count: int, otherwise: float) -> Tensor:
        given = getattr(self, name)
        vector = torch.full((count,), otherwise) if given is None else _numbers(name, given)
        if vector.shape != (count,):
            raise SettingError(f"{name} must have {count} numbers, got shape {tuple(vector.shape)}")
        return vector

    @classmethod
    def load(cls, path: str | Path, *, kind: str | None = None, k: int | None = None) -> Dictionary:
        """Read a dictionary from a file. No file runs code.

        Reads what `save` writes; safetensors or a state_dict of SAELens, ViT-Prisma, saev and overcomplete, with a
        `cfg.json` or `config.json` beside it where there is one; and `.npz` or `.npy` files with the arrays of
        scikit-learn's NMF, PCA, FastICA and KMeans, or with vectors of linear probes.

        Args:
            path: The file, or a folder of SAELens.
            kind: The kind, for a file that does not contain it; `None` to read it from the file.
            k: Number of codes above 0 of a TopK autoencoder, for a file that does not contain it.

        Returns:
            The dictionary.

        Raises:
            WeightsError: The file is missing, damaged, or holds no dictionary that can be read.
            SettingError: There is no such kind.
        """
        from featviz.network.dictionaries.formats import read

        if kind is not None:
            _check_kind(kind)
        return read(Path(path), kind, k)

    def save(self, path: str | Path) -> Path:
        """Write it as a safetensors file, atomically.

        Args:
            path: The file; it ends in .safetensors.

        Returns:
            The path.

        Raises:
            OutputError: The file cannot be written.
        """
        from featviz.network.dictionaries.formats import write_own

        return write_own(self, Path(path))

    @property
    def features(self) -> int:
        """Number of features."""
        return len(self.encoder)

    @property
    def channels(self) -> int:
        """Number of channels of the layer."""
        return self.encoder.shape[1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its numbers by name."""
        return {each.name: value for each in fields(self) if isinstance(value := getattr(self, each.name), Tensor)}

    @property
    def fingerprint(self) -> str:
        """Hash of its kind and numbers, whatever the format of the file."""
        digest = hashlib.sha256(f"{self.kind} {self.k}".encode())
        for name, tensor in self.tensors.items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def codec(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Codec:
        """Return its numbers on a device, with the formulas that use them.

        Args:
            device: The device.
            dtype: Floating-point type.
        """
        on_device = {name: tensor.to(device, dtype) for name, tensor in self.tensors.items()}
        return Codec(**on_device, k=self.k, is_linear=self.kind in LINEAR, is_nonnegative=self.kind == "nmf")

    def encode(self, x: Float[Tensor, "*n channels"]) -> Float[Tensor, "*n features"]:
        """Return the codes of activations, differentiably.

        Args:
            x: Activations, with the channels last.
        """
        return self.codec(x.device, x.dtype).encode(x)

    def decode(self, codes: Float[Tensor, "*n features"]) -> Float[Tensor, "*n channels"]:
        """Return the activations that codes stand for.

        Args:
            codes: With the features last.
        """
        return self.codec(codes.device, codes.dtype).decode(codes)

    def at(self, layer: str) -> Dictionary:
        """Return the same dictionary for another layer.

        Args:
            layer: Name of the layer.
        """
        return replace(self, layer=layer)

    def __eq__(self, other: object) -> bool:
        """Whether the other one has the same kind and numbers."""
        return isinstance(other, Dictionary) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        """Return the hash of its kind and numbers."""
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        """Show the kind, the numbers of features and channels, and the facts."""
        facts = "".join(f", {name.replace('_', ' ')} {value:.3g}" for name, value in self.facts.items())
        where = f" of {self.layer}" if self.layer else ""
        return f"<Dictionary{where}: {self.kind}, {self.features} features of {self.channels} channels{facts}>"


def _check_kind(kind: object) -> None:
    known = get_args(Kind)
    if not isinstance(kind, str) or kind not in known:
        hint = nearest(kind, known) if isinstance(kind, str) else ""
        raise SettingError(f"kind of a dictionary must be {', '.join(known)}, got {shown(kind)}{hint}")


def _numbers(name: str, value: Any) -> Tensor:
    """Return finite numbers in single precision, on the CPU."""
    try:
        tensor = torch.as_tensor(value).detach().to("cpu", torch.float32, copy=True).contiguous()
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingError(f"{name} of a dictionary must be numbers, got {shown(value)}") from error
    if not tensor.isfinite().all():
        raise SettingError(f"{name} of a dictionary must be finite, and has NaN or infinite numbers")
    return tensor


def _count_of(kind: str, k: Any, features: int) -> int | None:
    """Return the number of codes above 0 at a position.

    Raises:
        SettingError: `k` is missing, or out of its range.
    """
    if kind == "kmeans":
        return 1
    if k is None and kind in WITH_K:
        raise SettingError(f"a dictionary of kind {kind} needs k, the number of codes above 0; give k=32")
    if k is None or kind not in WITH_K:
        return None
    count = as_whole("k", k)
    if not 1 <= count <= features:
        raise SettingError(f"k must be in [1, {features}], the number of features, got {count}")
    return count
