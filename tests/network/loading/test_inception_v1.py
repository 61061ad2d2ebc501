"""InceptionV1 with Lucid's layer names: the table of its layers, weights files, and equality with Lucent's module."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import featviz as fv
from featviz.network import is_on_this_machine
from featviz.network.loading import inception_v1
from featviz.network.loading.downloads import git_object
from featviz.network.loading.inception_v1 import BLOCKS, NORMS, InceptionV1, lucid_name

NAME = "inception_v1_lucid"
SHAPES_HASH = "c707317d3460851b"


def random_state(seed=0):
    """A state_dict whose activations stay near 1 through all layers, under the module's own names."""
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in InceptionV1().state_dict().items():
        fan_in = value[0].numel() if value.ndim > 1 else 1
        scale = (2 / fan_in) ** 0.5 if value.ndim > 1 else 0.1
        state[key] = scale * torch.randn(value.shape, generator=rng)
    state["conv2d0_pre_relu.weight"] /= 100  # its input is in [-117, 138]
    return state


def lucent_keys(state):
    return {
        re.sub(
            r"(pre_relu|pre_activation)\.", lambda m: f"{m[1]}_{'conv' if 'relu' in m[1] else 'matmul'}.", key
        ): value
        for key, value in state.items()
    }


def captum_keys(state):
    branches = {"1x1": "conv_1x1", "3x3_bottleneck": "conv_3x3_reduce", "3x3": "conv_3x3", "pool_reduce": "pool_proj",
                "5x5_bottleneck": "conv_5x5_reduce", "5x5": "conv_5x5"}  # fmt: skip
    names = {"conv2d0_pre_relu": "conv1", "conv2d1_pre_relu": "conv2", "conv2d2_pre_relu": "conv3"}
    names |= {f"{block}_{ours}_pre_relu": f"{block}.{theirs}" for block in BLOCKS for ours, theirs in branches.items()}
    names["softmax2_pre_activation"] = "fc"
    return {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in state.items()}


def outputs(module, images, rename=lambda name: name):
    """The output of every layer, by its name in Lucid."""
    found = {}
    hooks = [
        child.register_forward_hook(lambda _m, _i, out, name=name: found.__setitem__(rename(name), out))
        for name, child in module.named_children()
    ]
    with torch.no_grad():
        module.eval()(images)
    for hook in hooks:
        hook.remove()
    return found


def test_names_and_shapes_of_the_weights_are_those_of_the_published_file():
    """The hash was computed from the module of Lucent 0.1.8."""
    shapes = {key: tuple(value.shape) for key, value in lucent_keys(InceptionV1().state_dict()).items()}
    text = "\n".join(f"{key} {shapes[key]}" for key in sorted(shapes))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == SHAPES_HASH
    assert len(shapes) == 2 * 58


@pytest.mark.slow
def test_every_layer_equals_lucents():
    """With the same random weights and images, to 1e-5. Lucent is no dependency; this runs where it is installed."""
    module = pytest.importorskip("lucent.modelzoo.inceptionv1.InceptionV1")
    state = random_state()
    theirs, ours = module.InceptionV1(), InceptionV1()
    theirs.load_state_dict(lucent_keys(state))
    ours.load_state_dict(state)
    images = torch.rand(2, 3, 224, 224) * 255 - 117
    want = outputs(theirs, images, lambda name: name.removesuffix("_conv").removesuffix("_matmul"))
    got = outputs(ours, images)
    assert set(got) - set(want) == {"localresponsenorm0", "localresponsenorm1", "avgpool0"}  # no layers of Lucent's
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("keys", "norm"),
    [(lucent_keys, "lucent"), (captum_keys, "captum"), (dict, "lucent")],
    ids=["lucent", "captum", "own"],
)
def test_weights_files_of_lucent_and_captum_load_and_normalise_as_there(tmp_path, keys, norm):
    state = random_state()
    file = keys(state)
    if norm == "captum":
        file["aux1.loss_conv.weight"] = torch.zeros(1)  # a training head that is not used
    torch.save(file, tmp_path / "inception5h.pth")
    net = fv.load(NAME, weights=tmp_path / "inception5h.pth", device="cpu")
    assert all(torch.equal(value, state[key]) for key, value in net.module.state_dict().items())
    x = torch.rand(1, 12, 3, 3) * 30
    size, alpha, beta, k = NORMS[norm]
    sums = torch.stack([x[:, max(0, c - size // 2) : c + size // 2 + 1].square().sum(1) for c in range(12)], 1)
    torch.testing.assert_close(net.module.localresponsenorm1(x), x / (k + alpha / size * sums) ** beta)


def test_files_that_do_not_fit_are_refused(tmp_path):
    state = lucent_keys(InceptionV1().state_dict())
    del state["mixed4a_3x3_pre_relu_conv.bias"]
    torch.save(state, tmp_path / "w.pth")
    message = (
        f"{tmp_path / 'w.pth'} does not fit InceptionV1: 1 missing (mixed4a_3x3_pre_relu.bias); give weights of the "
        "same model"
    )
    with pytest.raises(fv.WeightsError, match=f"^{re.escape(message)}$"):
        fv.load(NAME, weights=tmp_path / "w.pth")


def test_numbers_of_the_circuits_papers_can_be_typed():
    net = fv.load(NAME, weights="none", device="cpu")
    for block, widths in BLOCKS.items():
        assert net.layers().layers[block].channels == sum(widths[i] for i in (0, 2, 4, 5))
    assert net.layers().layers["mixed4b"].channels == net.layers().layers["mixed4c"].channels == 512
    assert net.size == (224, 224)
    assert net.head == "softmax2_pre_activation"
    image = torch.rand(1, 3, 224, 224)
    acts = net.capture(image, ["mixed4b", "softmax2", "softmax2_pre_activation"])
    torch.testing.assert_close(acts["softmax2"].sum(), torch.tensor(1.0))
    torch.testing.assert_close(acts["softmax2"], acts["softmax2_pre_activation"].softmax(1))
    assert float(fv.score(net, "mixed4b:373", image)) == pytest.approx(float(acts["mixed4b"][0, 373].mean()), rel=1e-4)
    assert fv.score(net, "logit:1007", image)[0] == pytest.approx(float(acts["softmax2_pre_activation"][0, 1007]))


def test_the_module_gets_images_in_the_range_of_lucid():
    net = fv.load(NAME, weights="none", device="cpu")
    seen = []
    net.module.conv2d0_pre_relu.register_forward_pre_hook(lambda _m, args: seen.append(args[0][..., 2:-3, 2:-3]))
    levels = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 224, 224)
    net.module.eval()((levels - torch.tensor(net.input.mean).view(3, 1, 1)) / torch.tensor(net.input.std).view(3, 1, 1))
    torch.testing.assert_close(seen[0].amax((1, 2, 3)), torch.tensor([-117.0, 10.5, 138.0]))


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server with weights and class names, whose checksums are those of the published files; and what was asked."""
    asked = []
    names = "dummy\nkit fox\n" + "\n".join(f"class {index}" for index in range(2, 1001))
    torch.save(lucent_keys(random_state()), tmp_path / "weights")
    served = {"WEIGHTS": (tmp_path / "weights").read_bytes(), "LABELS": names.encode()}
    for name, data in served.items():
        (tmp_path / name).write_bytes(data)
        own = replace(getattr(inception_v1, name), git_object=git_object(tmp_path / name))
        monkeypatch.setattr(inception_v1, name, own)

    def download(url, file, progress):
        asked.append(url)
        Path(file).write_bytes(served["WEIGHTS" if url == inception_v1.WEIGHTS.url else "LABELS"])

    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    return asked


def test_weights_and_class_names_are_downloaded_once(published):
    assert not is_on_this_machine(NAME)
    first, second = (fv.load(NAME, device="cpu") for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert published == [inception_v1.WEIGHTS.url, inception_v1.LABELS.url]
    assert is_on_this_machine(NAME)
    assert is_on_this_machine(NAME, "none")
    assert len(first.classes) == inception_v1.CLASSES
    assert first.classes[:2] == ("dummy", "kit fox")
    assert first.classes[1000:1002] == ("class 1000", "dummy 1001")
    offline = fv.load(NAME, weights=inception_v1.WEIGHTS.path, device="cpu")
    assert offline.classes == first.classes  # their file is in the cache


def test_weights_from_a_file_download_nothing(published, tmp_path):
    net = fv.load(NAME, weights=tmp_path / "WEIGHTS", device="cpu")
    assert published == []
    assert net.classes == ()


def test_own_class_names_download_none(published):
    names = [f"own {index}" for index in range(inception_v1.CLASSES)]
    assert fv.load(NAME, device="cpu", classes=names).classes == tuple(names)
    assert published == [inception_v1.WEIGHTS.url]


def test_a_damaged_copy_is_downloaded_again(published):
    fv.load(NAME, device="cpu")
    inception_v1.WEIGHTS.path.write_bytes(inception_v1.WEIGHTS.path.read_bytes()[:-1])
    assert not is_on_this_machine(NAME)
    fv.load(NAME, device="cpu")
    assert published.count(inception_v1.WEIGHTS.url) == 2
    assert is_on_this_machine(NAME)


def test_another_file_at_the_address_is_refused(published, monkeypatch):
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda url, file, progress: Path(file).write_bytes(b"other"))
    expected = inception_v1.WEIGHTS.git_object
    message = (
        f"the weights of {NAME} at {inception_v1.WEIGHTS.url} must have the git object {expected}, "
        f"got {git_object_of(b'other')}; try again, or give a file with --weights"
    )
    with pytest.raises(fv.WeightsError, match=f"^{re.escape(message)}$"):
        fv.load(NAME)
    assert list(inception_v1.WEIGHTS.path.parent.iterdir()) == []


def test_a_download_that_fails_says_what_to_do(published, monkeypatch):
    def refuse(url, file, progress):
        raise OSError("no route to host")

    fv.load(NAME, device="cpu")
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    inception_v1.LABELS.path.unlink()
    assert is_on_this_machine(NAME)
    assert fv.load(NAME, device="cpu").classes == ()  # classes are addressed by number
    inception_v1.WEIGHTS.path.unlink()
    message = f"cannot download the weights of {NAME} (no route to host); give a file with --weights"
    with pytest.raises(fv.WeightsError, match=f"^{re.escape(message)}$"):
        fv.load(NAME)


def test_a_cache_that_cannot_be_made_is_named(published, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    message = f"cannot make the folder {tmp_path / 'checkpoints'} ("
    with pytest.raises(fv.OutputError, match=f"^{re.escape(message)}"):
        fv.load(NAME)


def git_object_of(data):
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def test_a_git_object_is_named_as_by_git(tmp_path):
    (tmp_path / "file").write_bytes(b"what is up, doc?")  # the example of Pro Git
    assert git_object(tmp_path / "file") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"
    assert git_object_of(b"what is up, doc?") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


def test_names_of_other_weights_stay():
    assert lucid_name("mixed4a_3x3_pre_relu.weight") == "mixed4a_3x3_pre_relu.weight"
    assert lucid_name("head.weight") == "head.weight"


@pytest.mark.parametrize("prefix", ["module.", "model."])
def test_wrapped_files_load(tmp_path, prefix):
    for keys, norm in ((lucent_keys, "lucent"), (captum_keys, "captum")):
        state = {f"{prefix}{key}": value for key, value in keys(random_state()).items()}
        torch.save(state, tmp_path / "weights.pth")
        module = fv.load(NAME, weights=tmp_path / "weights.pth", classes=[], device="cpu").module
        assert module.localresponsenorm0.size == NORMS[norm][0]


def test_the_normalisation_is_part_of_the_fingerprint(tmp_path):
    prints = []
    for keys in (lucent_keys, captum_keys):
        torch.save(keys(random_state()), tmp_path / "weights.pth")
        net = fv.load(NAME, weights=tmp_path / "weights.pth", classes=[], device="cpu")
        prints.append(net.fingerprint)
    assert prints[0] != prints[1]
    net.module.use_norm(NORMS["lucent"])
    assert net.fingerprint == prints[0]
