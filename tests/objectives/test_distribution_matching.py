"""Objectives that compare distributions of activations, restated by loops, in double precision."""

import math

import pytest
import torch
from sample import ACTS, MAP, TOKENS, C, H, N, W, assert_scores
from torch import nn

import featviz as fv
from featviz import objectives as obj
from featviz.errors import AddressError, OutputError, SettingError
from featviz.interfaces import RenderContext
from featviz.io import save_image
from featviz.network import batch_norm_layers, batch_statistics
from featviz.network.activations import Activations
from featviz.objectives import distribution

PHOTOGRAPHS = tuple(torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(seed)) for seed in range(20))
MAPS = torch.randn(20, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(9))

LAYOUTS = ACTS.layouts | {"map2": ACTS.layouts["map"]}


def bound(objective, maps=MAPS, statistics=None):
    """Bind to a network that outputs `maps` for the photographs, some at a time."""
    seen = iter(range(0, len(maps), distribution.CHUNK))

    def capture(images, layers):
        first = next(seen)
        assert images.shape[1:] == (3, 16, 24)
        return Activations(dict.fromkeys(layers, maps[first : first + len(images)]), LAYOUTS, (16, 24))

    return objective.bind(RenderContext(capture, 3, (6, 9), (16, 24), batch_statistics=statistics))


def distances(values, maps):
    """Restate the distance of each image: sort, average the photographs, divide by the variance."""
    found = []
    variances = []
    for c in range(C):
        everything = maps[:, c].flatten().tolist()
        mean = sum(everything) / len(everything)
        variances.append(sum((v - mean) ** 2 for v in everything) / len(everything))
    for image in values:
        total = 0.0
        for c in range(C):
            ranked = [sorted(one[c].flatten().tolist()) for one in maps]
            target = [sum(one[k] for one in ranked) / len(ranked) for k in range(len(ranked[0]))]
            mine = sorted(image[c].flatten().tolist())
            apart = sum((a - r) ** 2 for a, r in zip(mine, target, strict=True)) / len(mine)
            total += apart / (variances[c] + 0.01 * sum(variances) / C)
        found.append(total / C)
    return found


def test_match_distribution():
    objective = bound(obj.MatchDistribution("map", PHOTOGRAPHS))
    assert_scores(objective(ACTS), [-one for one in distances(MAP, MAPS)])


def test_each_layer_counts_the_same():
    both = bound(obj.MatchDistribution("map", PHOTOGRAPHS, ("map2",)))
    acts = Activations({"map": MAP, "map2": 3 * MAP}, LAYOUTS, (16, 24))
    expected = [(a + b) / -2 for a, b in zip(distances(MAP, MAPS), distances(3 * MAP, MAPS), strict=True)]
    assert_scores(both(acts), expected)
    assert obj.MatchDistribution("map", PHOTOGRAPHS, "map2").layers == {"map", "map2"}


def test_positions_do_not_matter():
    objective = bound(obj.MatchDistribution("map", PHOTOGRAPHS[:1]), MAPS[:1])
    shuffled = MAPS[:1].flatten(2)[:, :, torch.randperm(H * W)].view(1, C, H, W)
    assert objective(Activations({"map": shuffled}, ACTS.layouts, (16, 24))).item() == pytest.approx(0, abs=1e-12)
    assert objective(Activations({"map": shuffled + 1}, ACTS.layouts, (16, 24))).item() < -0.1


def test_another_scale_of_the_layer_gives_the_same_score():
    scores = bound(obj.MatchDistribution("map", PHOTOGRAPHS))(ACTS)
    acts = Activations({"map": 100 * MAP}, ACTS.layouts, (16, 24))
    torch.testing.assert_close(bound(obj.MatchDistribution("map", PHOTOGRAPHS), 100 * MAPS)(acts), scores)


def test_sorted_values_are_resampled_to_the_number_of_positions():
    target = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    values = torch.tensor([[[2.0, 0.0, 0.5, 1.5, 1.0]]], dtype=torch.float64)
    assert distribution.sorted_distance(values, target, torch.ones(1), "map").item() == pytest.approx(0, abs=1e-12)


def test_tokens_and_vectors():
    objective = bound(obj.MatchDistribution("tokens", PHOTOGRAPHS), TOKENS[:1].expand(20, -1, -1))
    assert objective(ACTS).shape == (N,)
    message = "'vector' has no positions to sort; name a feature map or tokens"
    with pytest.raises(AddressError, match=message):
        bound(obj.MatchDistribution("vector", PHOTOGRAPHS), MAPS[:, :, 0, 0])
    narrow = Activations({"map": MAP[:, :2]}, ACTS.layouts, (16, 24))
    with pytest.raises(AddressError, match=f"'map' must have {C} channels as for the photographs, got 2"):
        bound(obj.MatchDistribution("map", PHOTOGRAPHS))(narrow)


def test_a_folder_is_listed_when_the_objective_is_made(tmp_path):
    for name, image in zip(("b.png", "a.png"), PHOTOGRAPHS[:2], strict=True):
        save_image((255 * image).byte().movedim(0, 2).numpy(), tmp_path / name)
    objective = obj.MatchDistribution("map", tmp_path)
    assert objective.files == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert obj.parse(f"distribution(map, '{tmp_path}')") == objective
    assert str(objective) == "distribution(map, 2 photographs)"
    assert str(obj.MatchDistribution("map", "a.png", "map2")) == "distribution(map, a.png, map2)"
    with pytest.raises(OutputError):
        bound(obj.MatchDistribution("map", "missing.png"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "there is no photograph to match; give a folder or a sequence of files"),
        (3, "photographs must be a folder, or a sequence of files or images, got 3"),
        (["a.png"] * 1001, "photographs must be at most 1000, got 1001; give about 50 that show the unit"),
        ((torch.full((3, 4, 4), 2.0),), "the image"),
    ],
)
def test_bad_photographs(given, message):
    with pytest.raises(SettingError, match=message):
        obj.MatchDistribution("map", given)
    with pytest.raises(SettingError, match="others of MatchStatistics must be text"):
        obj.MatchStatistics("map", (3,))


def test_the_text_of_statistics():
    both = obj.MatchStatistics("stem.1", ("tv",))
    assert str(both) == 'statistics(stem.1, "tv")'
    assert obj.parse(str(both)) == both


def test_match_statistics():
    mean, std = torch.randn(C, dtype=torch.float64), torch.rand(C, dtype=torch.float64) + 0.5
    objective = bound(obj.MatchStatistics("map"), statistics=lambda layer: (mean, std))
    expected = []
    spread = [(s * s + 0.01 * (std * std).mean().item()) ** 0.5 for s in std.tolist()]
    for image in MAP:
        total = 0.0
        for c in range(C):
            values = image[c].flatten().tolist()
            center = sum(values) / len(values)
            own = math.sqrt(sum((v - center) ** 2 for v in values) / len(values) + (1e-3 * spread[c]) ** 2)
            total += ((center - mean[c].item()) ** 2 + (own - spread[c]) ** 2) / spread[c] ** 2
        expected.append(-total / C)
    assert_scores(objective(ACTS), expected)


@pytest.mark.parametrize("statistics", [None, lambda layer: None])
def test_layers_without_statistics(statistics):
    message = "'map' keeps no batch-norm statistics; name a batch-norm layer, or match photographs instead"
    with pytest.raises(SettingError, match=message):
        bound(obj.MatchStatistics("map"), statistics=statistics)


@pytest.mark.parametrize("affine", [True, False])
def test_statistics_of_a_batch_norm_are_those_of_its_output(affine):
    norm = nn.BatchNorm2d(4, affine=affine, eps=0.1, momentum=None)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    batch = 0.3 * torch.randn(64, 4, 9, 9) + torch.arange(4.0)[:, None, None]
    norm(batch)
    with torch.no_grad():
        out = norm.eval()(batch)
    mean, std = batch_statistics(nn.ModuleDict({"norm": norm}), "norm")
    torch.testing.assert_close(mean, out.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(std, out.std((0, 2, 3)), rtol=1e-3, atol=1e-3)
    kept = nn.Sequential(norm, nn.BatchNorm1d(3, track_running_stats=False), nn.ReLU())
    assert batch_norm_layers(kept) == ("0",)
    assert all(batch_statistics(kept, name) is None for name in ("1", "2", "3"))


def test_a_render_comes_closer_to_photographs_than_without():
    net = fv.load("motifnet", device="cpu")
    generator = torch.Generator().manual_seed(5)
    photographs = [torch.rand(3, 64, 64, generator=generator) ** 3 for _ in range(3)]
    match = obj.MatchDistribution("stage1", photographs, ("stage2",))
    settings = {"steps": 24, "param": fv.param.Image(64), "transforms": (), "robustness_views": 0, "progress": None}
    with_match, without = (
        fv.render(net, goal, **settings).images for goal in (obj.Logit("star") + 10 * match, obj.Logit("star"))
    )
    before, after = (fv.score(net, match, images).item() for images in (without, with_match))
    assert after > 0.7 * before
