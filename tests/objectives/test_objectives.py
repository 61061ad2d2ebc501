"""Directions, batches, canvases and references, each restated by loops, in double precision."""

import math

import pytest
import torch

from featviz import objectives as obj
from featviz import transforms as T
from featviz.errors import AddressError, SettingError
from featviz.interfaces import RenderContext
from featviz.io import Array
from featviz.network.activations import Activations, Layout
from featviz.random import Generators

N, C, H, W = 3, 4, 3, 5
MAP = torch.randn(N, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(N, 7, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
CANVAS = torch.rand(N, 3, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
ACTS = Activations(
    {"map": MAP, "tokens": TOKENS, "vector": MAP[:, :, 0, 0]},
    {"map": Layout("map"), "tokens": Layout("tokens", 2, (8, 8), 1), "vector": Layout("vector")},
    (16, 24),
    source=CANVAS,
)
VECTOR = [0.5, -1.0, 2.0, 0.25]


def dot_cosine(units, vector, power):
    dot = sum(u * v for u, v in zip(units, vector, strict=True))
    if power == 0:
        return dot
    lengths = (1e-4 + math.sqrt(sum(u * u for u in units))) * (1e-4 + math.sqrt(sum(v * v for v in vector)))
    return dot * max(0.1, dot / lengths) ** power


def close(score, wanted):
    assert score.shape == (len(wanted),)
    assert score.tolist() == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("power", [0, 1, 2.5])
def test_direction(power):
    wanted = [
        sum(dot_cosine(MAP[i, :, y, x].tolist(), VECTOR, power) for y in range(H) for x in range(W)) / (H * W)
        for i in range(N)
    ]
    close(obj.Direction("map", VECTOR, power)(ACTS), wanted)
    wanted = [sum(dot_cosine(TOKENS[i, t].tolist(), VECTOR, power) for t in range(7)) / 7 for i in range(N)]
    close(obj.Direction("tokens", VECTOR, power)(ACTS), wanted)
    wanted = [dot_cosine(MAP[i, :, 0, 0].tolist(), VECTOR, power) for i in range(N)]
    close(obj.Direction("vector", VECTOR, power)(ACTS), wanted)


@pytest.mark.parametrize("power", [0, 2])
def test_direction_neuron(power):
    wanted = [dot_cosine(MAP[i, :, 1, 4].tolist(), VECTOR, power) for i in range(N)]
    close(obj.DirectionNeuron("map", VECTOR, (1, 4), power)(ACTS), wanted)
    wanted = [dot_cosine(TOKENS[i, 1 + 1 * 3 + 2].tolist(), VECTOR, power) for i in range(N)]
    close(obj.DirectionNeuron("tokens", VECTOR, (1, 2), power)(ACTS), wanted)


def test_a_whitened_direction_is_the_inverse_covariance_times_it():
    root = torch.randn(4, 4, generator=torch.Generator().manual_seed(3))
    inverse = root @ root.T
    turned = [sum(inverse[i, j].item() * VECTOR[j] for j in range(4)) for i in range(4)]
    assert obj.Direction.whitened("map", VECTOR, inverse, 2).vector.tensor.tolist() == pytest.approx(turned, rel=1e-5)
    assert obj.Direction.whitened("map", VECTOR, torch.eye(4), 2) == obj.Direction("map", VECTOR, 2)


@pytest.mark.parametrize("power", [0, 1])
def test_tensor_direction_stands_in_the_middle(power):
    tensor = torch.randn(C, 1, 3, generator=torch.Generator().manual_seed(4))
    wanted = [
        dot_cosine(MAP[i, :, 1:2, 1:4].flatten().tolist(), tensor.double().flatten().tolist(), power) / 3
        for i in range(N)
    ]
    close(obj.TensorDirection("map", tensor, power)(ACTS), wanted)


def test_activation_weights():
    close(
        obj.ActivationWeights("map", VECTOR)(ACTS),
        [sum(VECTOR[c] * MAP[i, c, y, x].item() for c in range(C) for y in range(H) for x in range(W)) / (H * W)
         for i in range(N)],
    )  # fmt: skip
    places = torch.rand(H, W, generator=torch.Generator().manual_seed(5))
    wanted = [
        sum(places[y, x].item() * MAP[i, c, y, x].item() for c in range(C) for y in range(H) for x in range(W)) / 15
        for i in range(N)
    ]
    close(obj.ActivationWeights("map", places)(ACTS), wanted)
    wanted = [
        sum(VECTOR[c] * MAP[i, c, y, x].item() for c in range(C) for y in (1, 2) for x in (2, 3, 4)) / 6
        for i in range(N)
    ]
    close(obj.ActivationWeights("map", VECTOR, at=(1, 2), patch=(2, 3))(ACTS), wanted)


def test_interpolate():
    first, last = obj.Channel("map", 0), obj.Channel("map", 1)
    a, b = first(ACTS).tolist(), last(ACTS).tolist()
    close(obj.Interpolate(first, last)(ACTS), [a[0], (a[1] + b[1]) / 2, b[2]])


def test_alignment_adds_up_to_lucids():
    total = 0.0
    for distance in (1, 2):
        for i in range(N - distance):
            total -= (MAP[i] - MAP[i + distance]).square().mean().item() / 3**distance
    assert obj.Alignment("map", 3)(ACTS).sum().item() == pytest.approx(total)
    same = Activations({"map": MAP[:1].repeat(4, 1, 1, 1)}, ACTS.layouts, ACTS.size)
    assert obj.Alignment("map")(same).tolist() == [0, 0, 0, 0]
    assert (obj.Alignment("map")(ACTS) < 0).all()


def test_diversity_is_minus_the_mean_cosine_of_gram_matrices():
    grams = [(MAP[i].flatten(1) @ MAP[i].flatten(1).T).flatten() for i in range(N)]
    wanted = []
    for i in range(N):
        others = [j for j in range(N) if j != i]
        cosines = [(grams[i] @ grams[j] / grams[i].norm() / grams[j].norm()).item() for j in others]
        wanted.append(-sum(cosines) / len(others))
    close(obj.Diversity("map")(ACTS), wanted)
    same = Activations({"map": MAP[:1].repeat(4, 1, 1, 1)}, ACTS.layouts, ACTS.size)
    assert obj.Diversity("map")(same).tolist() == pytest.approx([-1] * 4)


def test_canvas():
    wanted = []
    for i in range(N):
        down = [abs(CANVAS[i, c, y + 1, x] - CANVAS[i, c, y, x]) for c in range(3) for y in range(5) for x in range(9)]
        along = [abs(CANVAS[i, c, y, x + 1] - CANVAS[i, c, y, x]) for c in range(3) for y in range(6) for x in range(8)]
        wanted.append((sum(down) / len(down) + sum(along) / len(along)).item())
    close(obj.TotalVariation()(ACTS), wanted)
    pixels = [CANVAS[i].flatten().tolist() for i in range(N)]
    close(obj.L1(0.3)(ACTS), [sum(abs(p - 0.3) for p in row) / len(row) for row in pixels])
    close(obj.L2(0.3)(ACTS), [sum((p - 0.3) ** 2 for p in row) / len(row) for row in pixels])


def blurred(image, std, reach_y, reach_x):
    """Mirrored at the edges without repeating them, weights of a Gaussian that add up to 1."""
    h, w = image.shape

    def mirrored(i, n):
        i = abs(i) % (2 * n - 2)
        return i if i < n else 2 * n - 2 - i

    def weights(reach):
        raw = [math.exp(-(i**2) / (2 * std**2)) for i in range(-reach, reach + 1)]
        return [value / sum(raw) for value in raw]

    wy, wx = weights(reach_y), weights(reach_x)
    out = torch.empty_like(image)
    for y in range(h):
        for x in range(w):
            out[y, x] = sum(
                wy[j + reach_y] * wx[i + reach_x] * image[mirrored(y + j, h), mirrored(x + i, w)]
                for j in range(-reach_y, reach_y + 1)
                for i in range(-reach_x, reach_x + 1)
            )
    return out


def test_blur_is_half_the_mean_square_of_what_a_blur_takes_away():
    wanted = [
        sum((CANVAS[i, c] - blurred(CANVAS[i, c], 0.8, 2, 2)).square().sum().item() for c in range(3)) / (2 * 162)
        for i in range(N)
    ]
    close(obj.Blur(0.8)(ACTS), wanted)


def test_subtracting_blur_blurs_and_does_not_reward_noise():
    noise = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    acts = Activations({}, {}, (20, 20), pictures=noise)
    (-obj.Blur()(acts)).sum().backward()
    smoother = (noise + 500 * noise.grad).detach()
    assert obj.TotalVariation()(acts.of(smoother)).item() < obj.TotalVariation()(acts).item()
    step = obj.Blur()(acts.of(smoother))
    assert step.item() < obj.Blur()(acts).item()


def test_boundary_complexity_looks_at_the_edge_alone():
    inside = CANVAS.clone()
    inside[:, :, 2:-2, 2:-2] = 0.5
    wanted = []
    for i in range(N):
        total = 0.0
        for c in range(3):
            soft = blurred(CANVAS[i, c], 2.5, 5, 8)
            for y in range(6):
                for x in range(9):
                    if not (2 <= y < 4 and 2 <= x < 7):
                        total += (CANVAS[i, c, y, x] - soft[y, x]).item() ** 2 + 0.8 * (
                            CANVAS[i, c, y, x] - 0.4
                        ).item() ** 2
        wanted.append(total / (3 * (54 - 10)))
    close(obj.BoundaryComplexity(2, 0.4)(ACTS), wanted)


def test_opacity_is_the_mean_of_alpha():
    alpha = torch.rand(N, 4, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    close(obj.Opacity()(ACTS.of(alpha, has_alpha=True)), [alpha[i, 3].mean().item() for i in range(N)])
    close(obj.Opacity(True)(ACTS.of(alpha, has_alpha=True)), [alpha[i, 3, 2:6, 3:9].mean().item() for i in range(N)])
    with pytest.raises(SettingError, match=r"^the picture has no alpha channel, so no opacity; give param=param.Alpha"):
        obj.Opacity()(ACTS)


def test_ramp():
    ramp = obj.Ramp(1, 5, 0.25, 0.75)
    for done, wanted in [(0, 1), (0.25, 1), (0.5, 3), (0.75, 5), (1, 5)]:
        assert ramp(ACTS.of(CANVAS, done=done)) == pytest.approx(wanted)
    close((ramp * obj.L1())(ACTS.of(CANVAS, done=0.5)), (3 * obj.L1()(ACTS)).tolist())


def context(target):
    """A network whose only layer is what the other picture is said to give."""

    def capture(images, layers):
        assert images.shape == (1, 3, 16, 24)
        return Activations(dict.fromkeys(layers, target), ACTS.layouts, (16, 24))

    return RenderContext(capture, 3, (6, 9), (16, 24))


OTHER = torch.rand(3, 6, 9, generator=torch.Generator().manual_seed(7))
TARGET = torch.randn(1, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(8))


def bound(objective, target=TARGET):
    return objective.bind(context(target))


def test_match():
    power = TARGET.square().sum().item()
    wanted = [-sum((MAP[i] - TARGET[0]).square().flatten().tolist()) / power for i in range(N)]
    close(bound(obj.Match("map", OTHER))(ACTS), wanted)
    same = Activations({"map": TARGET, "off": 0 * TARGET}, {"map": Layout("map"), "off": Layout("map")}, (16, 24))
    assert bound(obj.Match("map", OTHER))(same).item() == 0
    off = Activations({"map": 0 * TARGET}, ACTS.layouts, (16, 24))
    assert bound(obj.Match("map", OTHER))(off).item() == pytest.approx(-1)


@pytest.mark.parametrize("power", [0, 1, 3])
def test_caricature(power):
    target = TARGET.flatten().tolist()
    length = math.sqrt(sum(t * t for t in target))
    wanted = []
    for i in range(N):
        units = MAP[i].flatten().tolist()
        dot = sum(u * t for u, t in zip(units, target, strict=True))
        cosine = dot / (1e-4 + math.sqrt(sum(u * u for u in units))) / length
        wanted.append(dot / length**2 * max(0.1, cosine) ** power)
    close(bound(obj.Caricature("map", OTHER, power))(ACTS), wanted)


def gram(units):
    flat = units.flatten(1)
    return [
        [sum(flat[a, p].item() * flat[b, p].item() for p in range(flat.shape[1])) / flat.shape[1] for b in range(C)]
        for a in range(C)
    ]


def test_style_and_its_memory():
    target = torch.tensor(gram(TARGET[0]))
    grams = torch.tensor([gram(MAP[i]) for i in range(N)])
    power = target.square().sum()
    wanted = [(-(grams[i] - target).square().sum() / power).item() for i in range(N)]
    style = bound(obj.Style("map", OTHER, 0.75))
    assert style(ACTS).tolist() == pytest.approx(wanted, rel=1e-5)
    later = Activations({"map": 2 * MAP}, ACTS.layouts, ACTS.size)
    mixed = [(-((0.75 * grams[i] + 0.25 * 4 * grams[i]) - target).square().sum() / power).item() for i in range(N)]
    assert style(later).tolist() == pytest.approx(mixed, rel=1e-5)
    assert bound(obj.Style("map", OTHER, 0.75))(ACTS).tolist() == pytest.approx(wanted, rel=1e-5)  # another render
    forgets = bound(obj.Style("map", OTHER))
    forgets(later)
    assert forgets(ACTS).tolist() == pytest.approx(wanted, rel=1e-5)


def test_input_difference():
    wanted = [(CANVAS[i] - OTHER.double()).square().mean().item() for i in range(N)]
    close(bound(obj.InputDifference(OTHER))(ACTS), wanted)


def masked(objective, mask, acts):
    """The score, and its gradient in each layer."""
    leaves = {layer: tensor.clone().requires_grad_() for layer, tensor in acts.tensors.items()}
    here = Activations(leaves, acts.layouts, acts.size, pictures=acts.pictures)
    where = RenderContext(lambda *_: here, 3, (16, 24), (16, 24))
    score = obj.Within(objective, mask).bind(where)(here)
    score.sum().backward()
    return score.detach(), {layer: leaf.grad for layer, leaf in leaves.items()}


def test_within_a_mask_only_what_lies_under_it_is_changed():
    mask = torch.zeros(16, 24)
    mask[:8, :16] = 1  # two of the six cells of the patch grid, and a part of the map
    acts = ACTS.of(torch.rand(N, 3, 16, 24, dtype=torch.float64))
    score, gradient = masked(obj.Channel("tokens", 2), mask, acts)
    close(score, obj.Channel("tokens", 2)(ACTS).tolist())
    wanted = torch.zeros(7)
    wanted[1:3] = 7 / 2 / 7  # a mean over all seven, weighed as the mean over two
    assert torch.allclose(gradient["tokens"][0, :, 2], wanted.double())
    weights = torch.nn.functional.adaptive_avg_pool2d(mask[None, None].double(), (H, W))[0, 0]
    score, gradient = masked(obj.Channel("map", 1), mask, acts)
    close(score, obj.Channel("map", 1)(ACTS).tolist())
    assert torch.allclose(gradient["map"][0, 1], weights / weights.sum())
    for objective in (obj.Layer("map"), obj.Neuron("map", 1, (2, 4)), obj.Diversity("map")):
        score, gradient = masked(objective, mask, acts)
        close(score, objective(ACTS).tolist())
        assert not gradient["map"][:, :, weights == 0].any()
    with pytest.raises(
        AddressError, match=r"^no place to mask in 'vector'; it puts out one vector; mask a feature map$"
    ):
        masked(obj.Channel("vector", 1), mask, acts)


def test_within_a_mask_a_match_is_still_a_match():
    mask = torch.zeros(16, 24)
    mask[:8, :16] = 1
    same = Activations({"map": TARGET}, ACTS.layouts, (16, 24), pictures=CANVAS[:1])
    where = RenderContext(lambda *_: same, 3, (6, 9), (16, 24))
    for kind in (obj.Match, obj.Caricature, obj.Style):
        inside, whole = obj.Within(kind("map", OTHER), mask).bind(where)(same), kind("map", OTHER).bind(where)(same)
        assert inside.item() == pytest.approx(whole.item())


def test_within_a_mask_the_canvas_changes_there_alone():
    canvas = torch.rand(N, 3, 16, 24).requires_grad_()
    mask = torch.zeros(16, 24)
    mask[4:9, 3:20] = 1
    scene_of = RenderContext(lambda *_: None, 3, (16, 24), (16, 24))
    masked = obj.Within(obj.TotalVariation(), mask).bind(scene_of)
    acts = Activations({}, {}, (16, 24), pictures=canvas)
    assert masked(acts).tolist() == obj.TotalVariation()(acts).tolist()
    masked(acts).sum().backward()
    assert ((canvas.grad != 0).any(1).any(0) <= (mask > 0)).all()
    assert canvas.grad[:, :, 4:9, 3:20].abs().sum() > 0


def test_a_mask_moves_with_the_picture():
    images = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(9))
    mask = torch.zeros(1, 1, 32, 40)
    mask[..., 8:20, 10:25] = 1
    stack = T.fuse((T.Jitter(6), T.Rotate(30), T.Pad(4), T.ColorShift(0.0)))
    views, moved = T.look(0.25 + 0.7 * images * mask, stack, Generators([0, 1]))
    inside = moved(mask.expand(2, -1, -1, -1))
    assert inside.shape[2:] == views.shape[2:]
    assert inside[..., :4, :].max() < 1e-5  # padding is outside
    lit = (views - 0.25).amax(1, keepdim=True)[..., 4:-4, 4:-4]
    inner = inside[..., 4:-4, 4:-4]
    assert lit[inner == 0].max() < 1e-5
    assert lit[inner > 0.9].mean() > 0.3
    one = Activations({}, {}, (34, 34), pictures=images, moved=moved).split([1] * len(images))[1]
    assert torch.equal(one.moved(mask), inside[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: obj.Direction("a", [[1.0]]), "a vector of shape (1, 1); it needs 1 dimensions, channels first"),
        (lambda: obj.Direction("a", [1.0], -1), "power -1 is below 0; give 0 for the dot product, 2 for a narrow angle"),
        (lambda: obj.Direction("a", "x"), "'x' is no array of numbers"),
        (lambda: obj.Direction("a", [math.nan]), "an array of shape (1,) holds infinities or no numbers; give finite ones"),
        (
            lambda: obj.Direction.whitened("a", [1.0, 2.0], [[1.0]]),
            "a vector of shape (2,) needs an inverse covariance of (2, 2), not (1, 1)",
        ),
        (lambda: obj.ActivationWeights("a", [1.0], patch=(2, 2)), "a patch of 2 x 2 places needs a place to begin; give at="),
        (lambda: obj.ActivationWeights("a", 1.0), "weights of shape (); give (channels,), (h, w) or (channels, h, w)"),
        (lambda: obj.Style("a", OTHER, 1), "memory 1 is not in [0, 1); 0 forgets, 0.95 keeps twenty steps"),
        (lambda: obj.Ramp(0, 1, 0.5, 0.5), "a ramp from 0.5 to 0.5; give shares of the steps, 0 <= begin < end <= 1"),
        (lambda: obj.Blur(0), "a blur of 0 px does nothing; give a deviation above 0"),
        (lambda: obj.BoundaryComplexity(0), "an edge of 0 px is nothing; give 1 or more"),
        (lambda: obj.Match("a", 2 * OTHER), None),
        (lambda: obj.Within(obj.L1(), OTHER), "a mask of shape (3, 6, 9); give one channel, or a file"),
    ],
)  # fmt: skip
def test_what_cannot_be_made(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert message is None or str(caught.value) == message
    if message is None:
        assert str(caught.value).startswith("a picture of numbers from 0.0")
        assert str(caught.value).endswith("; give a file, or numbers in [0, 1]")


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (obj.Direction("map", [1.0]), "a direction of (1,) in 'map', which has (4,); give one of that shape"),
        (obj.TensorDirection("map", torch.ones(4, 9, 9)), "the tensor has 9 x 9 places, 'map' has 3 x 5"),
        (obj.TensorDirection("vector", torch.ones(4, 1, 1)), "the tensor has 1 x 1 places, 'vector' has one place"),
        (
            obj.ActivationWeights("tokens", VECTOR),
            "'tokens' is no feature map, so its places cannot be weighed; use Direction",
        ),
        (obj.ActivationWeights("map", [1.0, 2.0]), "weights of shape (2,) for (4, 3, 5) of 'map'"),
        (
            obj.ActivationWeights("map", VECTOR, at=(2, 2), patch=(2, 2)),
            "no place @3,3 in 'map'; at this size its map is 3 x 5, rows 0 to 2, columns 0 to 4",
        ),
    ],
)
def test_what_a_layer_does_not_have(objective, message):
    with pytest.raises(AddressError) as caught:
        objective(ACTS)
    assert str(caught.value) == message


def test_arrays_are_values():
    numbers = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    array = Array.of(numbers)
    assert torch.equal(array.tensor, numbers)
    assert eval(repr(array), {"Array": Array}) == array
    assert Array.of(array) is array
    assert Array.of(numbers + 1) != array
    with pytest.raises(SettingError, match=r"^an array of shape \(3, 5\) needs 15 numbers, its data hold others$"):
        Array((3, 5), array.data)
    with pytest.raises(SettingError):
        Array((3, 4), "no data")
