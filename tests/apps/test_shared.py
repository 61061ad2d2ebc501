"""The parts that several apps share: batches of photographs, probes, class names, input images and pages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toys
from PIL import Image

import featviz as fv
from featviz.apps.shared.classes import as_class, class_index, class_title, find_classes, network_title
from featviz.apps.shared.image_batches import folder_fingerprint, image_batches
from featviz.apps.shared.input_images import as_images
from featviz.apps.shared.normalisations import BATCH_NORMALISATIONS, NORMALISATIONS
from featviz.apps.shared.page import render_template
from featviz.apps.shared.probe import check_channels, check_positions, in_network_order, noise, probe
from featviz.network import OUTPUT


@pytest.fixture
def folder(tmp_path):
    """Five grey images, each of its own level, and a broken file as the third of six."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in (0, 1, 3, 4, 5):
        Image.new("RGB", (20, 10), (i, i, i)).save(folder / f"{i}.png")
    (folder / "2.png").write_bytes(b"\x89PNG no")
    return folder


def levels(batch):
    return (batch.images[:, 0, 0, 0] * 255).round().int().tolist()


def test_batches_have_equal_sizes_and_the_last_one_is_shorter(folder):
    skipped = []
    found = list(image_batches(folder, size=(8, 12), channels=1, batch=2, skipped=lambda *one: skipped.append(one)))
    assert [tuple(batch.images.shape) for batch in found] == [(2, 1, 8, 12), (2, 1, 8, 12), (1, 1, 8, 12)]
    assert [levels(batch) for batch in found] == [[0, 1], [3, 4], [5]]
    assert [[file.name for file in batch.files] for batch in found] == [
        ["0.png", "1.png"],
        ["3.png", "4.png"],
        ["5.png"],
    ]
    assert [batch.read for batch in found] == [3, 5, 6]  # the broken file counts with the first batch
    ((file, reason),) = skipped
    assert file == folder / "2.png"
    assert reason == f"cannot read {file} as an image; give a PNG, JPEG or WebP file"


def test_the_last_batch_counts_files_after_it_that_cannot_be_read(folder):
    for name in ("6.png", "7.png"):
        (folder / name).write_bytes(b"\x89PNG no")
    found = image_batches(folder, size=(8, 8), channels=1, batch=5, skipped=lambda *_: None)
    assert [(len(batch.files), batch.read) for batch in found] == [(5, 8)]


def test_without_a_callback_an_unreadable_file_is_an_error(folder):
    with pytest.raises(fv.OutputError, match=r"^cannot read .*2\.png as an image; give a PNG, JPEG or WebP file$"):
        list(image_batches(folder, size=(8, 8), channels=3, batch=2))


def test_batches_continue_after_the_first_files(folder):
    (batch,) = image_batches(folder, size=(8, 8), channels=3, batch=4, first=3)
    assert (levels(batch), batch.read) == ([3, 4, 5], 6)
    assert list(image_batches(folder, size=(8, 8), channels=3, batch=4, first=6)) == []


def test_the_fingerprint_of_a_folder_depends_on_names_and_contents(folder):
    count, before = folder_fingerprint(folder)
    assert (count, before) == folder_fingerprint(folder)
    assert count == 6  # unreadable files count as well
    (folder / "0.png").rename(folder / "00.png")
    _, renamed = folder_fingerprint(folder)
    (folder / "1.png").write_bytes(b"longer or shorter")
    _, changed = folder_fingerprint(folder)
    assert len({before, renamed, changed}) == 3


def test_a_probe_is_one_grey_image_of_the_input_size_or_another(net):
    assert probe(net, ["conv1"])["conv1"].shape == (1, 6, 32, 32)
    with pytest.raises(fv.AddressError, match="^no layer 'conv9' in "):
        probe(net, ["conv9"])


def test_noise_is_the_same_at_each_call(net):
    images = noise(net, 3)
    assert images.shape == (3, 3, 32, 32)
    assert images.equal(noise(net, 3))
    assert 0 <= images.min() < 0.01 < 0.99 < images.max() <= 1


def test_channels_are_checked(net):
    assert check_channels(net, "conv1", None) == [0, 1, 2, 3, 4, 5]
    assert check_channels(net, "conv1", (4, 0)) == [4, 0]
    assert check_channels(net, OUTPUT, None) == [0, 1, 2, 3, 4]
    with pytest.raises(fv.SettingError, match="^channels must not be empty; give some, or None for all$"):
        check_channels(net, "conv1", [])
    with pytest.raises(fv.AddressError, match="^no channel 6 in 'conv1'; it has 6, 0 to 5$"):
        check_channels(net, "conv1", [0, 6])
    with pytest.raises(fv.AddressError, match="^no layer 'conv9' in "):
        check_channels(net, "conv9", None)


def test_positions_are_checked(net):
    assert check_positions(net, "conv2") == (16, 16)
    assert check_positions(toys.network(toys.Vit()), "block") == (4, 4)
    with pytest.raises(
        fv.AddressError, match="^no positions in 'logit'; its output is one vector; use a feature map or patch tokens$"
    ):
        check_positions(net, OUTPUT)
    with pytest.raises(fv.AddressError, match="^no layer 'conv9' in "):
        check_positions(net, "conv9")


def test_classes_are_found_by_name_index_and_digits(net):
    assert find_classes(net, ["bee", 3, "2"]) == [1, 3, 2]
    assert class_index(net, "jack-o'-lantern") == 4
    with pytest.raises(fv.AddressError, match="^no class 'bea'; nearest: 'bee'"):
        class_index(net, "bea")
    with pytest.raises(fv.AddressError, match="^no class 5; the network has 5, 0 to 4$"):
        class_index(net, "5")


def test_digits_that_are_a_class_name_are_no_index():
    digits = toys.plain(classes=("4", "3", "2", "1", "0"))
    assert find_classes(digits, ["4", 4, "0"]) == [0, 4, 4]
    assert [as_class(digits, name) for name in ("4", 4, "7", "x")] == ["4", 4, 7, "x"]


def test_classes_of_one_of_several_heads(net):
    both = fv.combine(a=net, b=toys.plain(classes=("1", "2", "3", "4", "5")))
    assert class_index(both, "bee", "a") == 1
    assert [class_index(both, "1", head) for head in "ab"] == [1, 0]


def test_titles_of_classes_with_the_same_name_have_their_index():
    cranes = toys.plain(classes=("crane", "owl", "crane", "hen", "jay"))
    assert [class_title(cranes, i) for i in range(3)] == ["crane (0)", "owl", "crane (2)"]
    assert class_title(toys.plain(classes=()), 2) == "logit 2"


def test_images_given_as_numbers_keep_their_size(net):
    image = torch.rand(3, 20, 40)
    assert as_images(net, image).equal(image[None])
    assert as_images(net, image.numpy().astype(np.float64)).dtype == torch.float32
    with pytest.raises(
        fv.SettingError, match=r"^the image holds torch.float32 from .*; give floating-point numbers in \[0, 1\]$"
    ):
        as_images(net, 2 * image)


@pytest.mark.parametrize(("size", "expected"), [((64, 64), (32, 32)), ((48, 96), (32, 64)), ((10, 400), (32, 128))])
def test_a_file_is_read_at_about_the_input_size(net, tmp_path, size, expected):
    Image.new("RGB", size[::-1]).save(tmp_path / "a.png")
    assert as_images(net, tmp_path / "a.png").shape == (1, 3, *expected)
    assert as_images(toys.network(toys.Vit()), tmp_path / "a.png").shape == (1, 3, 32, 32)  # of fixed input size


def test_a_page_escapes_names_and_its_data_cannot_close_the_script():
    bad = "</script><script>alert(1)</script>"
    page = render_template("blocks/page.html", {"name": bad}, title=f"{bad} & more")
    assert "<script>alert" not in page
    assert "<title>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; &amp; more</title>" in page
    assert r'{"name": "\u003c/script>\u003cscript>alert(1)\u003c/script>"}' in page
    assert f"featviz {fv.__version__}" in page


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("/home/me/nets.py:make", "nets.py:make"),
        ("nets.py:make", "nets.py:make"),
        ("resnet18", "resnet18"),
        ("", "Plain"),
    ],
)
def test_the_title_of_a_network_has_no_folders(name, title):
    assert network_title(toys.network(toys.Plain(), name=name)) == title


@pytest.mark.parametrize(
    ("workers", "address", "available", "expected"),
    [
        (None, "local", 2, 2),
        (8, "local", 2, 2),
        (1, "local", 2, 1),
        (8, "auto", 2, 8),
        (3, "auto", 0, 3),
        (None, "auto", 4, 4),
    ],
)
def test_no_worker_is_waited_for_without_end(workers, address, available, expected):
    assert fv.RayBackend(address, workers)._worker_count(available, "GPU") == expected


@pytest.mark.parametrize(("workers", "address"), [(None, "local"), (2, "local"), (None, "auto")])
def test_a_cluster_without_room_is_refused(workers, address):
    with pytest.raises(
        fv.SettingError, match=f"^the Ray cluster at '{address}' has no room for a worker, which needs a GPU"
    ):
        fv.RayBackend(address, workers)._worker_count(0, "GPU")


@pytest.mark.parametrize("training", [False, True])
def test_normalisations_with_a_constant_denominator_have_the_same_output(training):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 4, 5, generator=generator)
    weight, bias, mean = torch.randn(3, 6, generator=generator)
    rows, var = torch.randn(4, 5, generator=generator), torch.rand(6, generator=generator) + 0.5
    calls = [
        (F.layer_norm, ((4, 5), rows, rows)), (torch.layer_norm, ((4, 5), rows, rows, 1e-3, True)),
        (F.rms_norm, ((4, 5), rows)), (torch.rms_norm, ((5,), rows[0], 1e-2)),
        (F.group_norm, (2, weight, bias, 1e-3)), (torch.group_norm, (3, weight, bias, 1e-3, True)),
        (F.instance_norm, (mean, var, weight, bias, training)),
        (torch.instance_norm, (weight, bias, mean, var, training, 0.1, 1e-3, True)),
        (F.batch_norm, (mean, var, weight, bias, training)),
        (torch.batch_norm, (weight, bias, mean, var, training, 0.1, 1e-3, True)),
    ]  # fmt: skip
    both = {**NORMALISATIONS, **BATCH_NORMALISATIONS}
    assert {function for function, _ in calls} == set(both)
    for function, given in calls:
        copies = [each.clone() if isinstance(each, torch.Tensor) else each for each in given]
        torch.testing.assert_close(both[function](x, *given), function(x, *copies), rtol=1e-4, atol=1e-5)


def test_layers_are_in_the_order_of_the_network():
    given = ["output.x", "relu", "conv2", "conv1#10", "conv1", "conv1#2"]
    assert in_network_order(toys.plain(), given) == ["conv1#2", "conv1#10", "conv1", "conv2", "relu", "output.x"]
