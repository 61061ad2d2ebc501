"""A module, what it expects as input, its class names and its layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featviz.checks import check_kind, check_size
from featviz.errors import SettingError, shown
from featviz.interfaces import EmbedsTexts, Size, show_size
from featviz.network.activations import Activations
from featviz.network.code_hash import code_hash
from featviz.network.dictionaries.attached import SUFFIX, check_fits, with_codes
from featviz.network.dictionaries.dictionary import Dictionary
from featviz.network.execution import Execution
from featviz.network.fast.batch_norm_folding import Pair, foldable
from featviz.network.fast.out_of_place import can_run_out_of_place
from featviz.network.heads import checked_outputs, heads_of, in_output_order, warn_of_counts
from featviz.network.inputs.embedding_input import lookup_of, on_embeddings, text_input
from featviz.network.inputs.given_inputs import GivenInput, inputs_in, on_images, without_inputs
from featviz.network.inputs.input_checks import image_spec, read_inputs, refuse_beside_inputs, refuse_both, with_given
from featviz.network.inputs.input_spec import InputSpec
from featviz.network.inputs.packing import check_and_join
from featviz.network.inputs.token_spec import TokenSpec, as_token_spec
from featviz.network.layer_lookup import LayerLike, find_layer, is_ambiguous, name_of, output_row
from featviz.network.layers import LayerRow, LayerTable, Probed
from featviz.network.module_errors import check_module
from featviz.network.neutral_state import neutral_state
from featviz.network.outputs import OUTPUT, OutputKind, OutputScale, in_single_precision
from featviz.network.probing import probe_cache
from featviz.network.probing.accepted_sizes import refuse_size, runs_on, smallest_size
from featviz.network.probing.field_probing import receptive_fields_of
from featviz.network.probing.measurements import Measurements, measure_outputs, probe_network, try_on_noise
from featviz.network.probing.receptive_fields import ReceptiveField
from featviz.network.session import Forward, open_session
from featviz.network.state_hash import identities, state_hash, weights_of
from featviz.network.working_copy import working_copy

ANOTHER = "make another network with fv.Network(module, inputs=...)"
"""Advice of messages about networks made with `inputs=`."""


class Network:
    """A module with its input specification, its class names and its layer table. Immutable.

    Give `size`, `mean` and `std` for a module that reads images; `tokens` for one that reads text; and `inputs` for one
    with several inputs, which says which ones are optimised, and the values of the others.

    The module is never modified. Eval mode, frozen parameters and hooks are set on a working copy that shares its
    weights. So the module can run elsewhere meanwhile, and several threads can use one network.

    Args:
        module: Any `nn.Module` that takes a batch of images, or of token ids (n, length). Of a module made by
            `torch.compile`, the original is used.
        size: Height and width in px, or one side, of the images that the network was trained on; `(4096,)` for signals
            of this length, `(32, 64, 64)` for volumes or video.
        mean: Mean of each channel, in [0, 1] for images. Its length is the number of input channels.
        std: Standard deviation of each channel, > 0. The module gets `(image - mean) / std`.
        channel_order: Order in which the module expects the channels of an RGB image: `"RGB"` or `"BGR"`.
        layout: Dimension order of a batch that the module expects: `"NCHW"`, channels first; `"NHWC"`, channels last;
            or `"NTCHW"` for video.
        axes: Names of the spatial axes: `"tyx"` for video; empty for those of `InputSpec`.
        value_range: Lowest and highest value of signals and volumes; `None` for those of `InputSpec`.
        tokens: For a network that reads text: a `TokenSpec`, or a tokenizer of Hugging Face. Its input specification is
            that of embedding sequences, which are images of one row with a channel per dimension of the embedding.
        classes: Class names in output order, or by index from 0; outputs that are left out get empty names.
        name: Name under which `fv.load` finds the network, for messages and recipes; empty for a module made in Python.
        weights: File of the weights, or `"default"` or `"none"`, for recipes.
        heads: Layers or outputs with the class logits, and their class names: `{"head": names}`, or
            `{"output.1": names}` for the second tensor of a network that outputs several. `None` for the output with
            `classes`; of several, the one with as many numbers as there are classes.
        inputs: For a module with several inputs: the arguments of its `forward` by name, or a tuple of positional ones.
            An `InputSpec`, in place of `size`, `mean` and `std`, says that this input is optimised; several can be, in
            `render`, `replay` and `score`, each with a param of its own. The others are given:
            a tensor as the module expects it, with the images first and one row, (1, ...), which every image gets;
            `fv.Given(tensor, per_image=True)` with row *i* for image *i* of a render; `fv.Given(tensor)` as it is,
            whatever the number of images; or a number, text, flag or `None`. They follow the device of the weights.
            Dicts and tuples may hold further ones. A module whose only argument is a dict gets all of them in one.
        outputs: Type of the outputs: `"classes"`, of which one is right; `"multilabel"`, independent labels;
            `"binary"`, one label; or `"regression"`, values without probabilities. `None` to determine it from the
            network: one output is binary, sigmoids at the end are independent labels, anything else is classes. Or a
            dict by head.
        smooth_pools: Spread the gradient of max pooling over the whole window, which removes its grid pattern.
        probed: The layer table, where it is known already; `None` to find it by running the module when needed.

    Raises:
        SettingError: A value of the input specification is out of its range; `outputs` is unknown; the index of a class
            is not a whole number >= 0; or an entry of `inputs` is missing, unknown or of another floating-point type
            than the weights, or none is an `InputSpec`.
        ModelError: The module is not an `nn.Module`, has no weights yet, or is itself TorchScript.
    """

    module: nn.Module
    input: InputSpec
    tokens: TokenSpec | None
    classes: tuple[str, ...]
    heads: Mapping[str, tuple[str, ...]]
    name: str
    weights: str | None
    head: str
    outputs: OutputKind | Mapping[str, OutputKind | None] | None
    smooth_pools: bool
    dictionaries: Mapping[str, Dictionary]
    _measured: Measurements

    def __init__(
        self,
        module: nn.Module,
        *,
        size: int | Size | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channel_order: str = "RGB",
        layout: str = "NCHW",
        axes: str = "",
        value_range: tuple[float, float] | None = None,
        tokens: TokenSpec | Any = None,
        inputs: Mapping[str, Any] | Sequence[Any] | None = None,
        classes: Sequence[str] | Mapping[int, str] = (),
        name: str = "",
        weights: str | None = None,
        heads: Mapping[str, Sequence[str] | Mapping[int, str]] | None = None,
        outputs: str | Mapping[str, str | None] | None = None,
        smooth_pools: bool = False,
        probed: Probed | None = None,
    ) -> None:
        outputs = checked_outputs(outputs)
        check_module(module)
        head, own_classes, names = heads_of(heads, classes)
        module = getattr(module, "_orig_mod", module)
        if inputs is not None:
            others = {"channel_order": channel_order != "RGB", "layout": layout != "NCHW", "axes": bool(axes)}
            images = {"size": size, "mean": mean, "std": std, "value_range": value_range, "tokens": tokens}
            refuse_beside_inputs(others | {key: value is not None for key, value in images.items()})
            module = without_inputs(module)
            read = read_inputs(module, inputs, name or type(module).__name__)
            module, spec = on_images(module, read), read.spec
        elif tokens is None:
            spec = image_spec(size, mean, std, channel_order, layout, axes, value_range)
        else:
            refuse_both(size=size, mean=mean, std=std)
            tokens = as_token_spec(tokens)
            module, spec = text_input(module, tokens, name or type(module).__name__)
        vars(self).update(
            module=module,
            input=spec,
            tokens=tokens,
            classes=own_classes,
            heads=names,
            name=name,
            weights=weights,
            head=head,
            outputs=outputs,
            smooth_pools=smooth_pools,
            dictionaries=MappingProxyType({}),
            _measured=Measurements(probed),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled or copied."""
        return vars(self) | {"dictionaries": dict(self.dictionaries)}  # a read-only view cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what was pickled or copied."""
        vars(self).update(state, dictionaries=MappingProxyType(state["dictionaries"]))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: networks are immutable."""
        _refuse_change(name)

    def __delattr__(self, name: str) -> None:
        """Refuse: networks are immutable."""
        _refuse_change(name)

    def __repr__(self) -> str:
        """Show the name and the input specification."""
        spec = self.input
        if self.tokens is not None:
            reads = f"reads {self.tokens.size} tokens, sequences of at most {self.tokens.length}"
            return f"<Network {self.label}: {reads}, {len(self.classes)} class names, on {self.device}>"
        expects = f"{show_size(spec.size, 'x')} px, {spec.channels} channels, mean {spec.mean}, std {spec.std}"
        if self.inputs:
            expects = f"optimises {self.dims}"
        expects += "".join(f", {name} = {each.described}" for name, each in self.given.items())
        return f"<Network {self.label}: {expects}, {len(self.classes)} class names, on {self.device}>"

    # ------------------------------------------------------------------------------------------ facts

    @property
    def given_heads(self) -> dict[str, tuple[str, ...]]:
        """The argument `heads` that makes this network."""
        return {self.head: self.classes} if OUTPUT in self.heads else dict(self.heads)

    @property
    def label(self) -> str:
        """Name for messages: that of `fv.load`, or the class of the module."""
        return self.name or type(self.module).__name__

    @property
    def size(self) -> Size:
        """Length of each axis of the input in px: height and width of images."""
        return self.input.size

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return self.input.channels

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self._weight.dtype

    @property
    def _weight(self) -> Tensor:
        tensors = chain(self.module.parameters(), self.module.buffers())  # weights may be buffers
        return next((each for each in tensors if each.is_floating_point()), torch.empty(0))

    @property
    def storages(self) -> set[int]:
        """Memory addresses of its weights and buffers."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return {tensor.untyped_storage().data_ptr() for tensor in tensors}

    @property
    def fingerprint(self) -> str:
        """Hash of its weights and of the values of given inputs, the same wherever they were loaded from."""
        state = weights_of(self.module)
        # Settings that belong to the weights: files of InceptionV1 differ in them.
        settings = [str(part) for part in self.module.modules() if isinstance(part, nn.LocalResponseNorm)]
        now = identities(state), settings
        known = self._measured.fingerprint
        if known is None or known[0] != now:
            given = [f"{name} {each.fingerprint}" for name, each in self.given.items()]
            known = self._measured.fingerprint = now, state_hash(state, [*given, *settings])
        return known[1]

    @property
    def code_hash(self) -> str:
        """Hash of the code, attributes and hooks of its modules; it differs between versions of Python."""
        return code_hash(self.module)

    @property
    @neutral_state()
    def probed(self) -> Probed:
        """The layers, and properties that are measured by two passes on first use."""
        # Threads may measure at the same time: a value is written once it is complete, and never cleared.
        probed = self._measured.probed
        if probed is None:
            key = self._cache_key
            probed, fields = probe_cache.load(key) or (None, None)
            if fields is not None:
                self._measured.fields = fields
            if probed is None:
                probed = probe_network(self, self._weight)
                probe_cache.save(key, probed, None)
            self._measured.probed = probed
        return probed

    @property
    def _cache_key(self) -> str:
        reads = "" if self.tokens is None else repr((self.tokens.length, lookup_of(self.module)))
        several = repr(self.inputs) if self.inputs else ""
        return probe_cache.cache_key(self.input, self.code_hash, self.fingerprint + reads + several)

    @property
    def table(self) -> dict[str, LayerRow]:
        """Every layer that can be addressed, by name, in execution order. The last one is the output, `""`."""
        table = self._measured.table
        if table is None:
            output = output_row(self)
            own = self.probed.table | ({} if output is None else {OUTPUT: output})
            table = self._measured.table = with_codes(own, self.dictionaries)
            warn_of_counts(self.module, self.heads, table, self.label)
        return table

    @property
    def fixed_size(self) -> bool:
        """Whether it accepts images of its own size only, as far as two other sizes show."""
        return self.probed.fixed_size

    def layers(self, size: int | Size | None = None) -> LayerTable:
        """List every layer: address, kind, shape, channels, receptive field and stride in px.

        Args:
            size: Length in px of each axis, as height and width of images, or one side; `None` for the network's input
                size.

        Returns:
            The table, which prints as text.

        Raises:
            ModelError: The network does not accept images of this size.
            SettingError: `size` is not a size.
        """
        size = self.size if size is None else check_size("size", size, len(self.size))
        if size == self.size:
            is_clear = OUTPUT not in self.table or not is_ambiguous(self, self.table[OUTPUT])
            return LayerTable(self.table, self.receptive_fields(), has_logits=is_clear)
        self.check_size(size)
        return self.with_input(size=size).layers()

    @neutral_state()
    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Measure the receptive field and stride of every feature map; measured on first use.

        Returns:
            The receptive fields by layer name.
        """
        probed = self.probed  # reads the fields, too, where they were measured before
        fields = self._measured.fields
        if fields is None:
            fields = self._measured.fields = receptive_fields_of(self)
            probe_cache.save(self._cache_key, probed, fields)
        return fields | {name + SUFFIX: fields[name] for name in self.dictionaries if name in fields}

    # ------------------------------------------------------------------------------------------ other inputs

    def with_input(self, *, probed: Probed | None = None, **changes: Any) -> Network:
        """Return a network with the same module and another input specification.

        Args:
            probed: The layer table at that input, where it is known already.
            changes: Any fields of `InputSpec`: `size`, `mean`, `std`, `channel_order`, `layout`, `value_range`.

        Returns:
            The network. The modules are shared, nothing is copied.

        Raises:
            SettingError: A value is out of its range.
        """
        if self.inputs:
            raise SettingError(f"{self.label} has an fv.InputSpec for each of {', '.join(self.inputs)}; {ANOTHER}")
        if self.tokens is not None and changes.keys() - {"size"}:
            raise SettingError(f"{self.label} reads text, whose input has a size only, got {', '.join(changes)}")
        spec, module = replace(self.input, **changes), self.module
        inputs = inputs_in(module).get("")
        if self.tokens is not None:
            module = on_embeddings(module, replace(lookup_of(module), bound=()))
        elif inputs is not None:
            module = on_images(module, inputs.changed(lambda _, leaf: spec if isinstance(leaf, InputSpec) else leaf))
        return self._replaced(module=module, input=spec, _measured=Measurements(probed))

    def with_dictionary(self, layer: LayerLike, dictionary: Dictionary | str | Path) -> Network:
        """Return a network with a dictionary attached to a layer, whose features are addressed as `layer~5`.

        The codes are a layer of their own, named `layer~`, with the positions of the layer and a channel per feature.
        Every function that takes a layer or an address takes it. A dictionary that was attached before is replaced.

        Args:
            layer: Name of the layer, or the module itself; empty text for the class logits.
            dictionary: The dictionary, or its file.

        Returns:
            The network. The module and what was measured are shared, nothing is copied.

        Raises:
            AddressError: There is no such layer, or it has another number of channels.
            SettingError: `dictionary` is no dictionary.
            WeightsError: The file cannot be read.
        """
        if isinstance(dictionary, str | Path):
            dictionary = Dictionary.load(dictionary)
        check_kind("dictionary", dictionary, Dictionary, "use fv.Dictionary.load(file), or fv.fit_dictionary(...)")
        if not isinstance(layer, str | nn.Module):
            raise SettingError(f"layer must be a layer's name or a module of the network, got {shown(layer)}")
        name = self.name_of(layer)
        assert name is not None  # it was given
        check_fits(self, name, dictionary)
        return self._with_dictionaries({**self.dictionaries, name: dictionary.at(name)})

    def _with_dictionaries(self, dictionaries: Mapping[str, Dictionary]) -> Network:
        """Return a network with other dictionaries. What was measured is shared, except for the layer table.

        Args:
            dictionaries: Dictionaries by the name of their layer, all of which are attached.
        """
        measured = replace(self._measured, table=None)
        return self._replaced(dictionaries=MappingProxyType(dict(dictionaries)), _measured=measured)

    def _replaced(self, **changes: Any) -> Network:
        """Return a network with other attributes. It shares the measurements, unless they are among the changes."""
        made = object.__new__(Network)
        vars(made).update(vars(self) | changes)
        return made

    def _labelled(
        self, name: str, weights: str | None, heads: Mapping[str, Sequence[str]], outputs: Any, smooth_pools: bool
    ) -> Network:
        """Return the same network under a name, with other heads and kinds of outputs.

        Args:
            name: Name for `fv.load`.
            weights: The argument `weights` of `fv.load`.
            heads: Class names by layer or output of the logits.
            outputs: As the argument of `fv.Network`.
            smooth_pools: As the argument of `fv.Network`.
        """
        head, classes, names = heads_of(heads, ())
        changes = {"head": head, "classes": classes, "heads": names, "outputs": checked_outputs(outputs)}
        measured = Measurements(self._measured.probed)
        return self._replaced(name=name, weights=weights, smooth_pools=smooth_pools, _measured=measured, **changes)

    def with_classes(self, classes: Sequence[str] | Mapping[int, str]) -> Network:
        """Return the network with other class names.

        Args:
            classes: Names in output order, or by index from 0.

        Returns:
            The network. The module and its layer table are shared; other measurements are repeated.

        Raises:
            SettingError: The network has several heads, or the names are not text.
        """
        if OUTPUT not in self.heads:
            raise SettingError(f"{self.label} has the heads {', '.join(self.heads)}; give their names in fv.Network")
        names = in_output_order(classes)
        return self._labelled(self.name, self.weights, {self.head: names}, self.outputs, self.smooth_pools)

    def copied(self) -> Network:
        """Return the same network with a copy of its module, whose weights can change apart from those of this one."""
        return self._replaced(module=copy.deepcopy(self.module), _measured=Measurements(self.probed))

    # ------------------------------------------------------------------------------------------ several inputs

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """Specifications of the optimised inputs by name, where there are several; empty where there is one.

        `input` then is that of all of them packed into one signal, as `rendering.images` is.
        """
        inputs = inputs_in(self.module).get("")
        return inputs.specs if inputs is not None and len(inputs.specs) > 1 else {}

    def pack(self, images: Mapping[str, Tensor]) -> Float[Tensor, "n 1 length"]:
        """Pack images of several optimised inputs into one signal, as `rendering.images`, for `fv.score` and `capture`.

        Args:
            images: By name of the input, (n, c, h, w) in [0, 1], or `(n, c, *size)`, of the size of the specification;
                `net.inputs[name].images(values)` returns those of signals and volumes.

        Raises:
            SettingError: There is one input, or images are missing, or have another shape than the specification.
        """
        if not self.inputs:
            raise SettingError(f"{self.label} optimises one input; give its images without net.pack")
        return check_and_join(images, self.inputs, self.label)

    @property
    def dims(self) -> str:
        """Dimensions of the images of each optimised input, for messages."""
        if not self.inputs:
            return f"({self.input.dims})"
        return ", ".join(
            f"{name} ({spec.channels}, {show_size(spec.size, ', ')})" for name, spec in self.inputs.items()
        )

    # ------------------------------------------------------------------------------------------ given inputs

    @property
    def given(self) -> dict[str, GivenInput]:
        """Values of the inputs that are given beside the optimised one, by name; of combined networks, with theirs."""
        parts = inputs_in(self.module).items()
        return {f"{part}.{name}".lstrip("."): each for part, inputs in parts for name, each in inputs.given.items()}

    @property
    def given_count(self) -> int | None:
        """Number of images for which inputs are given per image; `None` where all images get the same."""
        counts = (inputs.count for inputs in inputs_in(self.module).values())
        return next((count for count in counts if count is not None), None)

    @property
    def given_per_image(self) -> tuple[str, ...]:
        """Names of the inputs that are given per image."""
        return tuple(name for name, each in self.given.items() if each.rows == "own")

    def with_given(self, values: Mapping[str, Any]) -> Network:
        """Return the same network with other values of given inputs. Of several optimised ones, some can be given.

        Args:
            values: The other values by name of the input, as in the argument `inputs`; the rest stay as they are.

        Returns:
            The network. The module is shared. Measurements are kept if the new values have the same types and shapes.

        Raises:
            SettingError: There is no such given input, or a value cannot be given.
        """
        inputs = inputs_in(self.module).get("")
        if inputs is None:
            raise SettingError(
                f"{self.label} has no given inputs of its own; one that has is fv.Network(module, inputs=...)"
            )
        made = with_given(inputs, values, self._weight.dtype if self._weight.numel() else None)
        kinds = [{name: each.kind for name, each in some.given.items()} for some in (inputs, made)]
        alike = kinds[0] == kinds[1]
        measured = self._measured.without_values() if alike else Measurements()
        return self._replaced(module=on_images(self.module, made), input=made.spec, _measured=measured)

    # ------------------------------------------------------------------------------------------ text

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding that looks the token ids up.

        Raises:
            SettingError: The network reads images.
        """
        self._check_reads_text()
        return self.module.get_submodule(lookup_of(self.module).embedding)  # type: ignore[return-value]

    @property
    def ids(self) -> tuple[int, ...]:
        """Token ids of the text that was bound; empty for none, and for a network that reads images."""
        return () if self.tokens is None else lookup_of(self.module).bound

    def bind(self, ids: Sequence[int]) -> Network:
        """Return the same network, which gets these token ids beside their embedding sequence.

        Modules read from the ids where the padding is, or where the text ends. Measurements are shared.

        Args:
            ids: Token ids of one text, as `tokens.read` returns them.

        Raises:
            SettingError: The network reads images, or an id is not in the vocabulary.
        """
        tokens = self._check_reads_text()
        _ = self.probed  # measured without a text, so that the text does not matter
        lookup = replace(lookup_of(self.module), bound=tokens.read(ids))
        return self._replaced(module=on_embeddings(self.module, lookup))

    @neutral_state()
    def embed(self, ids: Sequence[int]) -> Float[Tensor, "1 d 1 length"]:
        """Return the embedding sequence of token ids: the output of the embedding, scaled if it does that itself.

        Args:
            ids: Token ids of one text, as `tokens.read` returns them.

        Raises:
            SettingError: The network reads images, or an id is not in the vocabulary.
        """
        tokens = self._check_reads_text()
        given = torch.tensor([tokens.read(ids)], device=self.device)
        with torch.no_grad():
            vectors = working_copy(self.embedding, share_weights=False).forward(given)
        return in_single_precision(vectors).transpose(1, 2)[:, :, None].contiguous()

    def _check_reads_text(self) -> TokenSpec:
        if self.tokens is None:
            raise SettingError(
                f"{self.label} reads images; a network that reads text is fv.Network(module, tokens=fv.TokenSpec(...))"
            )
        return self.tokens

    @property
    def texts(self) -> tuple[str, ...]:
        """The classes, if they are texts, which the module embeds as CLIP does; empty for any other network."""
        return self.classes if isinstance(self.module, EmbedsTexts) else ()

    @neutral_state()
    def embed_texts(self, texts: Sequence[str], layer: str = "embedding") -> Float[Tensor, "n d"]:
        """Return the embeddings of texts, in the space of a layer that embeds images, as in CLIP.

        Args:
            texts: One or more texts.
            layer: The layer: `"embedding"`, or `"name.embedding"` of one of several combined networks.

        Returns:
            One vector of unit norm per text.

        Raises:
            SettingError: The network does not embed texts.
        """
        parts = dict(self.module.named_modules())
        owner = parts.get(layer.rpartition(".")[0])
        if not isinstance(owner, EmbedsTexts) or layer not in parts:
            able = [name for name, part in parts.items() if isinstance(part, EmbedsTexts)]
            if able:
                written = [f'text("...", {f"{name}.embedding".lstrip(".")})' for name in able]
                raise SettingError(f"layer {layer!r} of {self.label} has no texts; write {' or '.join(written)}")
            raise SettingError(
                f"{self.label} does not embed texts; load one that does, such as open_clip/ViT-B-32/laion2b_s34b_b79k, "
                "or make one with fv.zero_shot(model, texts, tokenizer)"
            )
        return owner.embed_texts(texts)

    # ------------------------------------------------------------------------------------------ sizes

    def check_size(self, size: Size, layers: Collection[str] = ()) -> None:
        """Check that the network accepts images of this size.

        Args:
            size: Length of each axis in px.
            layers: Layers up to which it must run; empty for the whole network.

        Raises:
            ModelError: The network does not accept it; the message names the smallest square that it accepts.
        """
        if not self.accepts(size, layers):
            refuse_size(self, size, layers)

    @property
    def smallest(self) -> int:
        """Side in px of the smallest square that it accepts; shortest side of the smallest signal or volume."""
        return min(smallest_size(self))

    @neutral_state()
    def accepts(self, size: Size, layers: Collection[str] = ()) -> bool:
        """Whether the network runs on images of this size.

        Args:
            size: Length of each axis in px.
            layers: Layers up to which it must run; empty for the whole network.
        """
        key = size, frozenset(layers)
        if key not in self._measured.accepted:
            self._measured.accepted[key] = runs_on(self, size, layers)
        return self._measured.accepted[key]

    def copy_module(self) -> nn.Module:
        """Return a working copy, whose weights are copied only if the forward pass writes to them."""
        return working_copy(self.module, share_weights=not self.probed.writes_weights)

    def normaliser(self) -> Callable[[Tensor], Tensor]:
        """Return a function from images in [0, 1], `(n, c, *size)`, to what the module expects."""
        return self.input.normaliser(self._weight)

    def check_images(self, images: Tensor) -> None:
        """Check that images are a floating-point batch with the network's channels.

        Args:
            images: Any tensor.

        Raises:
            SettingError: `images` is not a tensor of floating-point numbers with the network's axes and channels.
        """
        if self.inputs and tuple(getattr(images, "shape", ()))[1:] != (1, *self.size):
            named = ", ".join(f"{name!r}: ..." for name in self.inputs)
            raise SettingError(f"{self.label} optimises several inputs; give their images as net.pack({{{named}}})")
        self.input.check(images, self.label)

    # ------------------------------------------------------------------------------------------ running it

    def session(self, layers: Iterable[str], execution: Execution = Execution()) -> AbstractContextManager[Forward]:
        """Open the network: a working copy of the module, frozen, hooked, folded and laid out for speed.

        The forward pass stops at the last layer needed. A module that runs several times in one pass is captured at
        its last call. Unlike `capture`, it runs in the state of PyTorch that the caller has set, such as autocast.

        Args:
            layers: Names of the layers to capture.
            execution: How to run the network.

        Returns:
            A context manager whose value is a function from images in [0, 1] to activations.

        Raises:
            AddressError: There is no such layer; when the context is entered.
        """
        return open_session(self, layers, execution)

    @neutral_state()
    def capture(self, images: Float[Tensor, "n c *size"], layers: str | Iterable[str]) -> Activations:
        """Return the activations of layers for images.

        Args:
            images: In [0, 1], on any device. If they need a gradient, so do the activations.
            layers: Names of the layers to capture, or one name.

        Returns:
            The activations, on the network's device.

        Raises:
            AddressError: There is no such layer.
            SettingError: The images do not have the network's channels, or are not as many as inputs per image.
        """
        self.check_images(images)
        with self.session([layers] if isinstance(layers, str) else layers) as forward:
            return forward(images.to(self.device))

    @neutral_state()
    def outputs_of(self, head: str = OUTPUT) -> tuple[OutputKind, OutputScale]:
        """Return what a head outputs, and whether it has turned logits into probabilities already.

        Args:
            head: Layer that outputs the logits, for a network with several heads.

        Raises:
            AddressError: There is no such layer.
        """
        if head not in self._measured.outputs:
            self._measured.outputs[head] = measure_outputs(self, head)
        return self._measured.outputs[head]

    @property
    @neutral_state()
    def foldable(self) -> tuple[Pair, ...]:
        """Convolutions with a batch normalisation that can be folded into them; measured on first use."""
        if self._measured.pairs is None:
            pairs: tuple[Pair, ...] = ()
            self._measured.pairs = try_on_noise(self, foldable, pairs)
        return self._measured.pairs

    @property
    @neutral_state()
    def runs_out_of_place(self) -> bool:
        """Whether activations can run out of place; measured on first use."""
        if self._measured.out_of_place is None:
            self._measured.out_of_place = try_on_noise(self, can_run_out_of_place, False)
        return self._measured.out_of_place

    @property
    def logits_layer(self) -> LayerRow | None:
        """The row of the class logits; `None` if there are several heads, or it is unclear which output they are."""
        output = self.table.get(OUTPUT) if OUTPUT in self.heads else None
        clear = output is not None and output.layout.kind == "vector" and not is_ambiguous(self, output)
        return output if clear else None

    def name_of(self, layer: LayerLike | None) -> str | None:
        """Return the name of a layer that is given as a name or as a module of the network.

        Args:
            layer: The layer; `None` for none.

        Raises:
            AddressError: The module is not part of the network.
        """
        return name_of(self, layer)

    def layer(self, layer: str) -> LayerRow:
        """Return the row of the layer table for a layer.

        Args:
            layer: Name of the layer; `name#2` for the second call of a module that runs several times in one pass.

        Raises:
            AddressError: There is no such layer, or its output cannot be addressed.
        """
        return find_layer(self, layer)


def _refuse_change(name: str) -> NoReturn:
    is_input = name in {field.name for field in fields(InputSpec)}
    remedy = f"net.with_input({name}=...) makes another" if is_input else "create another with fv.Network or fv.load"
    raise AttributeError(f"a Network is immutable, {name!r} cannot change; {remedy}")
