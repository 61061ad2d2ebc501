"""Dictionaries: their codes by plain formulas, and their features as a layer of a network."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
import toys
from sample_dictionaries import KINDS, dictionary, numbers

import featviz as fv
from featviz.cli import main
from featviz.network.dictionaries import from_autoencoder, from_centres, from_components
from featviz.network.gradients import redirect_gradients

# ---------------------------------------------------------------------------------------------- formulas


def slow_codes(kind, x):
    """Return the codes of one vector of activations, one feature after another, as the papers define them."""
    encoder, bias, offset = (
        numbers(12, 8).double(),
        numbers(12, seed=2, scale=0.1).double(),
        numbers(8, seed=3, scale=0.1),
    )
    if kind == "pca":
        return [sum(float(w) * float(v - m) for w, v, m in zip(row, x, offset, strict=True)) for row in encoder]
    if kind == "probe":
        return [sum(float(w) * float(v) for w, v in zip(row, x, strict=True)) for row in encoder]
    if kind == "kmeans":
        distances = [float((x.double() - row).square().sum()) for row in encoder]
        nearest = distances.index(min(distances))
        length = float(x.double() @ encoder[nearest]) / float(encoder[nearest].square().sum())
        return [max(0.0, length) if i == nearest else 0.0 for i in range(12)]
    products = [sum(float(w) * float(v - m) for w, v, m in zip(row, x, offset, strict=True)) for row in encoder]
    pre = [product + float(b) for product, b in zip(products, bias, strict=True)]
    if kind == "relu":
        return [max(0.0, each) for each in pre]
    if kind == "topk":
        kept = sorted(range(12), key=lambda i: -pre[i])[:3]
        return [max(0.0, pre[i]) if i in kept else 0.0 for i in range(12)]
    if kind in ("jumprelu", "batchtopk"):
        thresholds = numbers(12, seed=4).abs() if kind == "jumprelu" else torch.full((12,), 0.7)
        return [each if each > float(t) else 0.0 for each, t in zip(pre, thresholds, strict=True)]
    gain, magnitude = numbers(12, seed=5).exp(), numbers(12, seed=6)
    return [
        max(0.0, float(g) * product + float(m)) if each > 0 else 0.0
        for each, product, g, m in zip(pre, products, gain, magnitude, strict=True)
    ]


@pytest.mark.parametrize("kind", ["relu", "topk", "batchtopk", "jumprelu", "gated", "pca", "kmeans"])
def test_codes_are_those_of_the_plain_formula(kind):
    made, x = dictionary(kind), numbers(40, 8, seed=9)
    expected = torch.tensor([slow_codes(kind, each) for each in x])
    assert torch.allclose(made.encode(x), expected, atol=1e-5)
    assert expected.abs().sum() > 1


def test_a_probe_is_a_product_and_is_decoded_by_the_pseudo_inverse():
    probe = fv.Dictionary(kind="probe", encoder=numbers(12, 8))
    x = numbers(5, 8, seed=9)
    expected = torch.tensor([slow_codes("probe", each) for each in x])
    assert torch.allclose(probe.encode(x), expected, atol=1e-5)
    assert torch.allclose(probe.decode(probe.encode(x)), x, atol=1e-4)  # more features than channels


def test_codes_of_nmf_solve_the_least_squares_problem():
    made, x = dictionary("nmf"), numbers(6, 8, seed=9).abs()
    codes = made.encode(x)
    assert bool((codes >= 0).all())
    # At the solution the gradient is 0 where a code is positive, and not negative where it is 0.
    gradient = (codes @ made.decoder - x) @ made.decoder.T
    scale = (x @ made.decoder.T).abs().max()
    assert gradient[codes > 1e-4].abs().max() < 1e-4 * scale
    assert gradient.min() > -1e-4 * scale


def test_codes_of_nmf_have_the_gradient_of_the_solution():
    made = from_components("nmf", torch.eye(4)[:3] + 0.2)
    x = torch.tensor([[2.0, 1.0, 3.0, 0.5]], requires_grad=True)
    (found,) = torch.autograd.grad(made.encode(x)[0, 1], x)
    step = 1e-2
    for i in range(4):
        ahead, behind = x.detach().clone(), x.detach().clone()
        ahead[0, i] += step
        behind[0, i] -= step
        slope = (made.encode(ahead) - made.encode(behind))[0, 1].item() / (2 * step)
        assert math.isclose(found[0, i].item(), slope, abs_tol=0.02)


def test_decoding_is_a_sum_of_atoms():
    made, codes = dictionary(), numbers(3, 12, seed=7)
    expected = [
        [sum(float(codes[n, j] * made.decoder[j, i]) for j in range(12)) + float(made.offset[i]) for i in range(8)]
        for n in range(3)
    ]
    assert torch.allclose(made.decode(codes), torch.tensor(expected), atol=1e-5)


def test_equal_dictionaries_have_equal_hashes_and_others_do_not():
    one, two, other = dictionary(), dictionary(), dictionary("topk")
    assert one == two and hash(one) == hash(two) and one != other
    assert one.at("conv2") == one and one.at("conv2").layer == "conv2"
    assert repr(one.at("conv2")) == "<Dictionary of conv2: relu, 12 features of 8 channels>"


def test_a_dictionary_does_not_change_with_the_tensor_from_which_it_was_made():
    encoder = numbers(12, 8)
    made = fv.Dictionary(kind="probe", encoder=encoder)
    before = made.fingerprint
    encoder.zero_()
    assert made.fingerprint == before


# ---------------------------------------------------------------------------------------------- as a layer


@pytest.fixture
def with_features(net):
    return net.with_dictionary("conv2", dictionary("topk"))


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_a_layer_and_leave_the_pass_as_it_is(net, kind):
    made = dictionary(kind) if kind != "probe" else fv.Dictionary(kind="probe", encoder=numbers(12, 8))
    images = torch.rand(2, 3, 32, 32)
    plain = net.capture(images, ["conv2", ""])
    acts = net.with_dictionary("conv2", made).capture(images, ["conv2~", "conv2", ""])
    assert torch.equal(acts[""], plain[""]) and torch.equal(acts["conv2"], plain["conv2"])
    expected = made.encode(plain["conv2"].movedim(1, -1)).movedim(-1, 1)
    assert torch.allclose(acts["conv2~"], expected, atol=1e-5)
    assert acts.channels_first("conv2~").shape == (2, 12, 16, 16)


def test_gradients_reach_the_image_as_before_and_codes_get_that_of_the_decoder(net, with_features):
    images = torch.rand(1, 3, 32, 32)
    one, two = images.clone().requires_grad_(), images.clone().requires_grad_()
    with_features.capture(one, ["conv2~", ""])[""][0, 1].backward()
    net.capture(two, ["conv2", ""])[""][0, 1].backward()
    assert torch.allclose(one.grad, two.grad, atol=1e-6)
    acts = with_features.capture(images.requires_grad_(), ["conv2~", "conv2", ""])
    codes, own = torch.autograd.grad(acts[""][0, 1], [acts["conv2~"], acts["conv2"]])
    expected = torch.einsum("fc,ncyx->nfyx", with_features.dictionaries["conv2"].decoder, own)
    assert torch.allclose(codes, expected, atol=1e-6) and codes.abs().max() > 0


def test_replaced_codes_change_the_layer_by_what_the_decoder_says(net, with_features):
    images = torch.rand(1, 3, 32, 32)
    decoder = with_features.dictionaries["conv2"].decoder
    with with_features.session(["conv2~", ""]) as forward, torch.no_grad():
        raised = forward(images, replace={"conv2~": lambda codes: codes + 1})[""]
    with net.session(["conv2", ""]) as forward, torch.no_grad():
        expected = forward(images, replace={"conv2": lambda out: out + decoder.sum(0)[:, None, None]})[""]
    assert torch.allclose(raised, expected, atol=1e-5)
    assert not torch.allclose(raised, net.capture(images, [""])[""], atol=1e-3)


def test_the_layer_table_lists_codes_after_their_layer(with_features):
    names = list(with_features.table)
    row = with_features.table["conv2~"]
    assert names[names.index("conv2") + 1] == "conv2~"
    assert (row.channels, row.shape, row.stride, row.base) == (12, (12, 16, 16), 2, "conv2")
    fields = with_features.receptive_fields()
    assert fields["conv2~"] == fields["conv2"]
    assert "conv2~" in str(with_features.layers())
    assert "conv2~" in with_features.with_input(size=64).table
    assert with_features.layers(64).layers["conv2~"].shape == (12, 32, 32)


def test_the_network_without_the_dictionary_is_as_before(net, with_features):
    assert "conv2~" not in net.table and "conv2~" in with_features.table
    assert with_features.module is net.module
    with pytest.raises(AttributeError, match="immutable"):
        with_features.dictionaries = {}
    with pytest.raises(TypeError):
        with_features.dictionaries["conv1"] = dictionary()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("used", [False, True])
def test_a_network_is_copied_with_its_dictionaries(with_features, copied, used):
    images = torch.rand(2, 3, 32, 32)
    if used:
        assert "conv2~" in with_features.table
    other = copied(with_features)
    assert other.module is not with_features.module
    assert torch.equal(fv.score(other, "conv2~:3", images), fv.score(with_features, "conv2~:3", images))
    assert len(fv.render(other, "conv2~:3", steps=2, progress=None)) == 1
    with pytest.raises(AttributeError, match="immutable"):
        other.dictionaries = {}
    with pytest.raises(TypeError):
        other.dictionaries["conv1"] = dictionary()


def test_tokens_have_features_at_every_position_and_at_the_class_token():
    net = toys.network(toys.Vit()).with_dictionary("block", dictionary("relu", channels=12))
    images = torch.rand(2, 3, 32, 32)
    acts = net.capture(images, ["block", "block~"])
    assert torch.allclose(acts["block~"], dictionary("relu", channels=12).encode(acts["block"]), atol=1e-5)
    cls = acts.at("block", "cls")
    assert torch.allclose(acts.at("block~", "cls"), dictionary("relu", channels=12).encode(cls), atol=1e-5)
    for text in ("block~3", "block~3@cls", "block~3@1,2"):
        assert fv.score(net, text, images).shape == (2, 1)


def test_logits_may_have_features(net):
    with_logits = net.with_dictionary("", dictionary("pca", channels=5, features=4))
    acts = with_logits.capture(torch.rand(2, 3, 32, 32), ["~"])
    assert acts["~"].shape == (2, 4)
    assert str(fv.objectives.Channel("~", 2)) == '"~":2'
    assert len(fv.render(with_logits, '"~":2', steps=1)) == 1


class TokensFirst(torch.nn.Module):
    """A transformer whose blocks output (tokens, batch, channels)."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 12, 8, stride=8)
        self.block = torch.nn.TransformerEncoderLayer(12, 2, 24, dropout=0.0)
        self.head = torch.nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.block(self.patches(x).flatten(2).permute(2, 0, 1)).mean(0))


def test_layers_with_tokens_first_have_codes_with_the_batch_first():
    net = toys.network(TokensFirst())
    made = dictionary("topk", channels=12)
    acts = net.with_dictionary("block", made).capture(torch.rand(2, 3, 32, 32), ["block", "block~"])
    assert acts["block~"].shape == (2, 16, 12)
    assert torch.allclose(acts["block~"], made.encode(acts["block"]), atol=1e-5)


def test_combined_networks_keep_their_dictionaries(with_features):
    both = fv.combine(one=with_features, two=toys.network(toys.Functional()))
    images = torch.rand(1, 3, 32, 32)
    found = both.capture(images, ["one.conv2~"])["one.conv2~"]
    assert torch.allclose(found, with_features.capture(images, ["conv2~"])["conv2~"], atol=1e-6)
    assert len(fv.render(both, "one.conv2~1", steps=1)) == 1


def test_numbered_calls_of_a_module_may_have_features():
    net = toys.network(toys.Twice())
    made = dictionary("relu", channels=3)
    acts = net.with_dictionary("conv#1", made).capture(torch.rand(1, 3, 32, 32), ["conv#1", "conv#1~"])
    expected = made.encode(acts["conv#1"].movedim(1, -1)).movedim(-1, 1)
    assert torch.allclose(acts["conv#1~"], expected, atol=1e-6)
    assert str(fv.objectives.Channel("conv#1~", 2)) == "conv#1~2"


def test_outputs_in_a_dict_may_have_features():
    net = toys.network(toys.Dict())
    acts = net.with_dictionary("conv", dictionary("relu", channels=4)).capture(torch.rand(1, 3, 32, 32), ["conv~"])
    assert acts["conv~"].shape[1] == 12


def test_double_precision_stays(net):
    net = fv.Network(net.module.double(), size=32, **toys.HALF)
    acts = net.with_dictionary("conv2", dictionary()).capture(torch.rand(1, 3, 32, 32).double(), ["conv2~"])
    assert acts["conv2~"].dtype == torch.float64


def test_half_precision_computes_codes_in_single_precision(with_features):
    with with_features.session(["conv2~"], fv.Execution("bfloat16")) as forward, torch.no_grad():
        found = forward(torch.rand(1, 3, 32, 32))["conv2~"]
    assert found.dtype == torch.float32


# ---------------------------------------------------------------------------------------------- waking


@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu", "batchtopk", "gated", "kmeans", "nmf"])
def test_a_feature_that_is_off_at_the_start_rises(kind):
    """Feature 0 reads the first channel, and its competitors or its threshold keep it off for a grey image."""
    net = toys.network(toys.Plain())
    grey = net.capture(torch.full((1, 3, 32, 32), 0.5), ["conv2"]).channels_first("conv2").mean((0, 2, 3))
    encoder = torch.eye(8)[:4]
    bias = torch.cat([-grey[:1] - 0.15, 0.05 - grey[1:4]])
    if kind == "kmeans":
        made = from_centres(torch.stack([grey + 0.8 * torch.eye(8)[0], grey, grey - 0.3]))
    elif kind == "nmf":
        made = from_components("nmf", torch.stack([torch.eye(8)[0], grey + 0.3 * torch.eye(8)[0]]))
    else:
        more = {"topk": {"k": 2}, "jumprelu": {"threshold": torch.full((4,), 0.1)}}.get(kind, {})
        if kind == "batchtopk":
            more = {"threshold": torch.full((4,), 0.1)}
        if kind == "gated":
            more = {"gain": torch.ones(4), "magnitude_bias": bias}
        made = from_autoencoder(kind, encoder, encoder, bias, torch.zeros(8), centred=False, **more)
    net = net.with_dictionary("conv2", made)
    start = torch.full((1, 3, 32, 32), 0.5)
    interior = net.capture(start, ["conv2~"])["conv2~"][0, 0, 4:-4, 4:-4]
    assert interior.max() == 0
    # The middle is away from the border, where padding may have switched the feature on.
    rendering = fv.render(net, "conv2~0@center", start=start, transforms=(), steps=60, param=fv.param.Pixel())
    assert net.capture(rendering.images, ["conv2~"]).neuron("conv2~", 0, "center")[0] > 0


def codec_and_activations():
    """Return three centres of k-means, of which the second is nearest to each activation, and 5 activations."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(3, 8, generator=generator, dtype=torch.float64)
    x = (centres[1] + 0.05 * torch.rand(5, 8, generator=generator, dtype=torch.float64)).requires_grad_()
    return centres, from_centres(centres).codec(torch.device("cpu"), torch.float64), x


def test_a_redirected_gradient_raises_a_feature_above_the_one_that_keeps_it_off():
    """Its own `pre` alone would raise that of a similar feature as much, so that it never overtakes it."""
    centres, codec, x = codec_and_activations()
    with redirect_gradients(torch.ones(5, dtype=torch.bool)):
        codes = codec.encode(x)
    assert bool((codes[:, 1] > 0).all()) and codes[:, (0, 2)].abs().max() == 0
    (-codes[:, 2].sum()).backward()
    for each in x.grad:
        torch.testing.assert_close(-each, (centres[2] - centres[1]).to(each), rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_feature_that_is_on_does_not_depend_on_others():
    centres, codec, x = codec_and_activations()
    codec.encode(x).sum().backward()
    for each in x.grad:
        torch.testing.assert_close(each, (centres[1] / centres[1].square().sum()).to(each), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------------------------- addresses


def test_features_are_addressed_with_or_without_a_colon(with_features):
    for text in ("conv2~3", "conv2~:3", '"conv2~":3'):
        assert fv.objectives.parse(text) == fv.objectives.Channel("conv2~", 3)
    assert str(fv.objectives.parse("conv2~3@4,5")) == "conv2~3@4,5"
    assert str(fv.objectives.parse("conv2~")) == "conv2~"
    assert repr(fv.objectives.parse("0.conv~3 - 0.5*conv2~1@cls")) == (
        "Channel(layer='0.conv~', channel=3) - 0.5 * Neuron(layer='conv2~', channel=1, at='cls')"
    )
    assert str(fv.objectives.parse("3~5")) == "3~5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv2~12", "no channel 12 in 'conv2~'; it has 12, 0 to 11"),
        ("conv2~3@16,0", "no position @16,0 in 'conv2~'; at this size its map has rows 0 to 15 and columns 0 to 15"),
        (
            "conv1~3",
            "no dictionary is attached to layer 'conv1' of Plain; nearest: 'conv2~'; attach one: "
            "net.with_dictionary('conv1', fv.Dictionary.load(FILE)), or --dictionary FILE@conv1",
        ),
        ("cnv2~3", "no layer 'cnv2' in Plain; nearest: 'conv2', 'conv2~', 'conv1' (list all: net.layers())"),
    ],
)
def test_wrong_addresses_of_features(with_features, text, message):
    with pytest.raises(fv.AddressError) as caught:
        fv.render(with_features, text, steps=1)
    assert str(caught.value) == message


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "tpk"}, "kind of a dictionary must be relu, topk, batchtopk, jumprelu, gated, nmf, pca, ica, kmeans, probe, got 'tpk'; nearest: 'topk', 'batchtopk'"),
        ({"kind": torch.ones(2)}, "kind of a dictionary must be relu, topk, batchtopk, jumprelu, gated, nmf, pca, ica, kmeans, probe, got tensor([1., 1.])"),
        ({"kind": "topk"}, "a dictionary of kind topk needs k, the number of codes above 0; give k=32"),
        ({"kind": "topk", "k": 99}, "k must be in [1, 12], the number of features, got 99"),
        ({"encoder": torch.full((12, 8), math.nan)}, "encoder of a dictionary must be finite, and has NaN or infinite numbers"),
        ({"encoder": torch.ones(8)}, "encoder must have shape (features, channels), got (8,)"),
        ({"encoder": "x"}, "encoder of a dictionary must be numbers, got 'x'"),
        ({"decoder": torch.ones(8, 12)}, "decoder must have the shape (12, 8) of the encoder, got (8, 12)"),
        ({"bias": torch.ones(8)}, "bias must have 12 numbers, got shape (8,)"),
        ({"gain": torch.zeros(12)}, "gain must be > 0 for every feature; change the sign of the encoder's rows instead"),
    ],
)  # fmt: skip
def test_wrong_values(given, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.Dictionary(**{"kind": "relu", "encoder": numbers(12, 8)} | given)
    assert str(caught.value) == message


def test_wrong_attachments(net):
    with pytest.raises(fv.AddressError) as caught:
        net.with_dictionary("conv1", dictionary())
    assert str(caught.value) == ("the dictionary is for 8 channels, and layer 'conv1' of Plain has 6; nearest: 'conv2'")
    with pytest.raises(fv.AddressError, match="no layer 'conv9'"):
        net.with_dictionary("conv9", dictionary())
    with pytest.raises(
        fv.AddressError, match="'conv2~' are codes of a dictionary already; attach to the layer 'conv2'"
    ):
        net.with_dictionary("conv2", dictionary()).with_dictionary("conv2~", dictionary(channels=12))
    with pytest.raises(fv.SettingError, match="dictionary must be a dictionary, got 3; use fv.Dictionary.load"):
        net.with_dictionary("conv2", 3)
    with pytest.raises(fv.SettingError, match="layer must be a layer's name or a module of the network, got 3"):
        net.with_dictionary(3, dictionary())
    assert "conv2~" in net.with_dictionary(net.module.conv2, dictionary()).table


# ---------------------------------------------------------------------------------------------- recipes


def test_a_recipe_names_the_dictionary_and_replays(net, tmp_path):
    file = dictionary("topk").at("conv2").save(tmp_path / "features.safetensors")
    loaded = fv.Dictionary.load(file)
    made = fv.render(net.with_dictionary("conv2", loaded), "conv2~3", steps=3)
    assert made.recipe.dictionaries == {"conv2": (str(file), loaded.fingerprint)}
    assert fv.Recipe.from_json(made.recipe.to_json()) == made.recipe
    assert torch.equal(fv.replay(made.recipe, network=net).images, made.images)
    (path,) = made.save(tmp_path / "a.png")
    assert torch.equal(fv.replay(path, network=net).images, made.images)
    moved = file.rename(tmp_path / "moved.safetensors")
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(made.recipe, network=net)
    assert str(caught.value) == (
        f"the image was rendered with the dictionary {file} at layer 'conv2', which is missing; give its file with "
        "--dictionary, or dictionary="
    )
    assert torch.equal(fv.replay(made.recipe, network=net, dictionary=moved).images, made.images)
    other = dictionary("jumprelu")
    other.save(file)
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(made.recipe, network=net)
    assert str(caught.value) == (
        f"the image was rendered with a dictionary {loaded.fingerprint} at layer 'conv2', {file} is "
        f"{other.fingerprint}; give the original file with --dictionary, or dictionary="
    )


def test_a_dictionary_made_in_python_has_to_be_attached_for_a_replay(net, with_features):
    made = fv.render(with_features, "conv2~3", steps=2)
    assert torch.equal(fv.replay(made.recipe, network=with_features).images, made.images)
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(made.recipe, network=net)
    assert str(caught.value) == (
        "the image was rendered with a dictionary made in Python; attach it: network=net.with_dictionary('conv2', ...)"
    )


def test_names_of_images_depend_on_the_numbers_of_the_dictionary_and_not_on_its_file(net, tmp_path):
    def name(made, seed=0):
        return fv.render(net.with_dictionary("conv2", made), "conv2~3", steps=0, seed=seed).recipe.hash

    file = dictionary("topk").save(tmp_path / "a.safetensors")
    assert name(dictionary("topk")) == name(fv.Dictionary.load(file)) != name(dictionary("relu"))
    plain, attached = (
        fv.render(each, "conv2:3", steps=0).recipe for each in (net, net.with_dictionary("conv2", dictionary()))
    )
    assert plain.hash == attached.hash and attached.dictionaries == {}
    both = fv.render(net.with_dictionary("conv2", dictionary("topk")), ["conv2:3", "conv2~3"], steps=0)
    assert both[0].recipe.only(0).hash == plain.hash
    assert both.recipe.only(1).hash == name(dictionary("topk"), seed=1)


# ---------------------------------------------------------------------------------------------- command line


def test_the_command_line_attaches_dictionaries(tmp_path, capsys):
    made = dictionary("topk", channels=128)
    made.save(tmp_path / "plain.safetensors")
    made.at("stage3.1").save(tmp_path / "features.safetensors")
    quick = ["--steps", "2", "--quiet"]
    assert main(["render", "stage3.1~3", "--dictionary", "features.safetensors", "-o", "a.png", *quick]) == 0
    assert main(["replay", "a.png", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the same as the image, to the byte"
    assert main(["render", "stage3~3", "--dictionary", "plain.safetensors@stage3", "-o", "b.png", *quick]) == 0
    assert main(["layers", "--dictionary", "features.safetensors"]) == 0
    assert "stage3.1~" in capsys.readouterr().out
    for words, message in (
        ("plain.safetensors", "plain.safetensors does not name its layer; give --dictionary plain.safetensors@LAYER"),
        ("no.safetensors", "no dictionary file no.safetensors; give a .safetensors, .pt, .npz or .npy file"),
        ("features.safetensors@stage1", "the dictionary is for 128 channels, and layer 'stage1' of motifnet has 32; nearest: 'stage3.1', 'stage3', 'stage3.2'"),
    ):  # fmt: skip
        assert main(["render", "stage3.1~3", "--dictionary", words, "-o", "c.png", *quick]) == 2
        assert capsys.readouterr().err.splitlines() == [f"featviz: {message}"]
    assert not (tmp_path / "c.png").exists()


def test_pages_of_sweeps_address_features_without_a_colon(tmp_path):
    network = toys.plain()
    layer = next(name for name, row in network.table.items() if row.layout.kind == "map" and name)
    made = dictionary("pca", network.layer(layer).channels, 4)
    fv.sweep(network.with_dictionary(layer, made), tmp_path / "out", [f"{layer}~"], channels=[1, 3], steps=1)
    (page,) = (tmp_path / "out").glob("layer-*.html")
    text = page.read_text()
    assert f"{layer}~1" in text and f"{layer}~:" not in text and "2 of 4 features of" in text
