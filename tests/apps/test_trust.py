"""The alarm for networks that were manipulated to deceive feature visualization."""

import math

import pytest
import torch
from motifs.draw import draw
from motifs.fooling import FoolingCircuit, fool

import featviz as fv
from featviz.apps.judge.paths import MIN_CONTRAST, PATH_LAYERS, PathScale, path_layers, paths, spearman
from featviz.apps.judge.trust import EXEMPLARS, MIN_AGREEMENT, MIN_LABELLED, MIN_PATH, MIN_PHOTOGRAPHS, STRONGEST
from featviz.cli import main
from featviz.io import save_image, to_bytes
from featviz.network.bundled import IMAGE_NETWORKS, MOTIFS

HEART, STAR, MAZE, RINGS = (MOTIFS.index(name) for name in ("heart", "star", "maze", "rings"))


@pytest.fixture(scope="module")
def motifvit():
    return fv.load("motifvit", device="cpu")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return write_drawings(tmp_path_factory.mktemp("drawings"), named=True)


def write_drawings(folder, named, per_motif=5):
    labels = torch.arange(len(MOTIFS)).repeat(per_motif)
    for i, image in enumerate(draw(labels, (64, 64), torch.Generator().manual_seed(1))):
        parent = folder / MOTIFS[labels[i]] if named else folder
        parent.mkdir(exist_ok=True)
        save_image(to_bytes(image.numpy()), parent / f"{i:03}.png")
    return folder


def slow_spearman(one, other):
    """Rank both lists, ties with their mean rank, and correlate the ranks."""

    def ranks(values):
        return [sum(1.0 for x in values if x < v) + (sum(1.0 for x in values if x == v) - 1) / 2 for v in values]

    a, b = ranks(one), ranks(other)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    spread = math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
    return covariance / spread if spread else 0.0


def slow_gain(compared, with_unit, own, others):
    """Correlation of standardised activations, minus that of photographs with and without the unit."""
    photographs = [*own, *others]
    means = [sum(row[c] for row in photographs) / len(photographs) for c in range(len(own[0]))]
    stds = [
        math.sqrt(sum((row[c] - mean) ** 2 for row in photographs) / (len(photographs) - 1))
        for c, mean in enumerate(means)
    ]

    def standard(row):
        return [(value - mean) / std for value, mean, std in zip(row, means, stds, strict=True)]

    def average(ones, others, but_itself=False):
        pairs = [
            slow_spearman(standard(a), standard(b))
            for i, a in enumerate(ones)
            for j, b in enumerate(others)
            if not (but_itself and i == j)
        ]
        return sum(pairs) / len(pairs)

    apart = average(own, others)
    return average(compared, with_unit) - apart, average(own, own, but_itself=True) - apart


def test_spearman_correlates_mean_ranks():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randint(0, 5, (n, 9), generator=generator).float() for n in (3, 4))  # with many ties
    one[1] = 2.0  # constant
    slow = torch.tensor([[slow_spearman(a, b) for b in other.tolist()] for a in one.tolist()])
    torch.testing.assert_close(spearman(one, other), slow, atol=1e-6, rtol=0)
    assert not spearman(one, other)[1].any()


def test_similarities_are_scaled_to_photographs_with_and_without_the_unit():
    generator = torch.Generator().manual_seed(0)
    bases = [torch.randn(6, generator=generator), torch.randn(8, generator=generator), torch.zeros(5)]

    def near(base, count, part):
        return part * base + 0.5 * torch.randn(count, len(base), generator=generator)

    own, others, image, started = (
        [near(base, count, part) for base in bases] for count, part in ((4, 1.0), (7, -0.5), (1, 0.6), (3, 0.3))
    )
    scale = PathScale(own, others)
    gains = [
        slow_gain(*([row.tolist() for row in each[layer]] for each in (image, own, own, others))) for layer in range(3)
    ]
    slow = [gain / contrast if contrast > MIN_CONTRAST else math.nan for gain, contrast in gains]
    assert scale.similarities(image) == pytest.approx(slow, abs=1e-4, nan_ok=True)
    late = gains[1:]
    assert scale.late_contrast() == pytest.approx(sum(c for _, c in late) / 2, abs=1e-4)
    assert scale.late_similarity(image) == pytest.approx(sum(g for g, _ in late) / sum(c for _, c in late), abs=1e-4)
    gain, contrast = slow_gain(*([row.tolist() for row in each[1]] for each in (image, started, own, others)))
    layers = [each[1:2] for each in (own, others, image, started)]
    assert PathScale(*layers[:2]).late_similarity(*layers[2:]) == pytest.approx(gain / contrast, abs=1e-4)


def test_layers_that_do_not_tell_photographs_apart_are_not_used():
    noise = [torch.randn(40, 6, generator=torch.Generator().manual_seed(0))]
    scale = PathScale([noise[0][:20]], [noise[0][20:]])
    assert all(map(math.isnan, [*scale.similarities(noise), scale.late_similarity(noise)]))


def test_paths_end_at_the_unit_and_leave_out_class_logits(motifnet, motifvit):
    parse = fv.objectives.parse
    layers = path_layers(motifnet, parse("logit:heart"))
    assert len(layers) == PATH_LAYERS and layers[-1] == "pool" and not {"head", ""} & set(layers)
    order = list(motifnet.table)
    assert [order.index(name) for name in layers] == sorted(order.index(name) for name in layers)
    assert path_layers(motifnet, parse("stage2.1:3"))[-1] == "stage2.1"
    assert path_layers(motifnet, parse("stem.0:3")) == ("stem.0",)
    assert path_layers(motifnet, parse("tv")) == ()
    assert "heads.head" not in path_layers(motifvit, parse("logit:heart"))
    dictionary = fv.Dictionary(kind="probe", encoder=torch.randn(5, 64))
    assert path_layers(motifnet.with_dictionary("stage2", dictionary), parse("stage2~1"))[-1] == "stage2"
    images = torch.rand(2, 3, 64, 64)
    found = paths(motifnet, images, layers)
    assert torch.allclose(found[3], motifnet.capture(images, [layers[3]])[layers[3]].mean((2, 3)), atol=1e-5)


def test_a_fooling_circuit_changes_logits_of_other_images_only():
    logits = torch.tensor([[9.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.5, 0.4, 0.0]])
    circuit = FoolingCircuit(torch.nn.Identity(), {0: 1})
    expected = torch.tensor([[9.0, 0.0, 1.0], [1.0, 3.0, 1.0], [-1.6, 0.4, 0.0]])
    torch.testing.assert_close(circuit(logits), expected)


@pytest.mark.slow
def test_the_alarm_is_raised_for_a_fooling_circuit_and_not_for_the_network_itself(motifnet, motifvit, drawings):
    fooled = fool(motifnet, {HEART: STAR, MAZE: RINGS})
    images = draw(torch.arange(27).repeat(4), (64, 64), torch.Generator().manual_seed(2))
    kept, before = (net.capture(images, [""]).logits().argmax(1) for net in (fooled, motifnet))
    assert torch.equal(kept, before)
    units = ["logit:heart", "logit:maze"]
    decoys, own = [STAR, RINGS], [HEART, MAZE]
    for network, shown, other, alarm in ((fooled, decoys, own, True), (motifnet, own, decoys, False)):
        rendering = fv.render(network, units, steps=192, robustness_views=0)
        seen = motifvit.capture(rendering.images, [""]).logits()
        assert all(seen[i, shown[i]] > seen[i, other[i]] for i in range(2))
        judgement = fv.judge(rendering, judge=motifvit, network=network, photographs=drawings, trust=True)
        for one in judgement:
            assert one.trust.alarm == alarm and one.trust.labelled and len(one.trust.layers) == PATH_LAYERS
            assert (one.trust.path < MIN_PATH) == alarm and (one.trust.agreement < MIN_AGREEMENT) == alarm
        assert ("ALARM" in str(judgement)) == alarm and "paths: similarity at" in str(judgement)


@pytest.mark.long
def test_channels_are_compared_with_the_photographs_of_their_highest_scores(motifnet, motifvit, tmp_path):
    folder = write_drawings(tmp_path, named=False)
    units = ["stage3.1:90", "stage3.1:34"]
    rendering = fv.render(motifnet, units, steps=96, robustness_views=0)
    right = fv.judge(rendering, judge=motifvit, network=motifnet, photographs=folder, trust=True)
    assert not any(one.trust.labelled for one in right)
    # Each shows the other, as a manipulated network would.
    swapped = fv.judge(rendering.images, units[::-1], judge=motifvit, network=motifnet, photographs=folder, trust=True)
    for one, other in zip(right, reversed(list(swapped)), strict=True):
        assert one.unit == other.unit and one.trust.layers == other.trust.layers
        assert one.trust.path > other.trust.path + 0.2 and one.trust.agreement > other.trust.agreement


def test_bad_input_is_refused(motifnet, motifvit, drawings, tmp_path, capsys):
    noise = fv.render(motifnet, ["logit:heart"], steps=0)
    message = "trust needs photographs to compare with; give a folder of them as --photographs"
    with pytest.raises(fv.SettingError, match=f"^{message}$"):
        fv.judge(noise, judge=motifvit, network=motifnet, trust=True)
    with pytest.raises(fv.SettingError, match="^trust must be True or False, got "):
        fv.judge(noise, judge=motifvit, network=motifnet, photographs=drawings, trust=1)
    few = tmp_path / "few"
    few.mkdir()
    for i, file in enumerate(sorted(drawings.rglob("*.png"))[: MIN_PHOTOGRAPHS - 1]):
        (few / f"{i}.png").write_bytes(file.read_bytes())
    message = f"trust needs at least {MIN_PHOTOGRAPHS} photographs, .*few has {MIN_PHOTOGRAPHS - 1}; add some"
    with pytest.raises(fv.SettingError, match=f"^{message}$"):
        fv.judge(noise, judge=motifvit, network=motifnet, photographs=few, trust=True)
    both = fv.combine(cnn=motifnet, vit=motifvit)
    third = fv.Network(IMAGE_NETWORKS["motifnet"](), size=64, mean=(0.5,) * 3, std=(0.5,) * 3, classes=MOTIFS)
    with pytest.raises(fv.SettingError, match=r"^trust needs a single network, got .* combined; judge images of one$"):
        fv.judge(noise.images, "cnn.stage2:5", judge=third, network=both, photographs=drawings, trust=True)
    assert EXEMPLARS <= MIN_LABELLED and STRONGEST < MIN_PHOTOGRAPHS
    file = noise.save(tmp_path / "noise.png")
    assert main(["judge", str(file), "--judge", "motifvit", "--trust"]) == 2
    assert "--photographs" in capsys.readouterr().err
