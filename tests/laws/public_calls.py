"""A call of every public function that takes a network."""

from __future__ import annotations

import functools
import inspect
import tempfile
from contextlib import closing
from pathlib import Path

import torch
import toys
from explore_client import Client
from PIL import Image
from stateful_networks import CLASSES, SIDE, first_map, image_of, unit

import featviz as fv
from featviz import methods, param

GENERATOR = torch.Generator().manual_seed(0)


@functools.cache
def pictures(side=SIDE, count=2):
    """Return a folder of photographs."""
    folder = Path(tempfile.mkdtemp())
    for i in range(count):
        pixels = (255 * torch.rand(side, side, 3, generator=GENERATOR)).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def explained(method):
    return lambda net, folder: fv.explain(net, image_of(net), "logit:0", method)


def rendered(**more):
    return lambda net, folder: fv.render(net, [unit(net), "logit:1"], **{"steps": 2, "robustness_views": 1, **more})


def by_weights(**more):
    """Render an objective that reads the user's own weights, which need gradients."""

    def call(net, folder):
        layer = first_map(net)

        @fv.objectives.objective(layer)
        def weighted(acts):
            total = sum(weight.square().sum() for weight in net.module.parameters())
            return acts[layer].flatten(1).mean(1) * total

        fv.render(net, [weighted, 2 * weighted], **{"steps": 1, "robustness_views": 0, **more})

    return call


def session(net, folder):
    with net.session([first_map(net)]) as forward:
        forward.module.train()
        forward.module.requires_grad_(True)
        forward(image_of(net))


def with_features(net, folder):
    layer = first_map(net)
    made = fv.Dictionary(kind="topk", encoder=torch.randn(4, net.table[layer].channels, generator=GENERATOR), k=2)
    attached = net.with_dictionary(layer, made)
    fv.render(attached, f'"{layer}~":1 + logit:1', steps=1, robustness_views=0)
    attached.capture(image_of(net).requires_grad_(), [f"{layer}~", ""])[""].sum().backward()


def concepts(net, folder):
    layer, bright, dark = first_map(net), folder / "bright", folder / "dark"
    for each, brightest in ((bright, 1), (dark, 0.2)):
        each.mkdir()
        for i in range(10):
            pixels = (255 * brightest * torch.rand(8, 8, 3, generator=GENERATOR)).byte().numpy()
            Image.fromarray(pixels).save(each / f"{i}.png")
    concept = fv.Concept.from_photographs(net, layer, bright, dark)
    concept.sensitivity(net, bright, "logit:0")
    fv.render(net, concept.objective() + fv.objectives.Cosine(layer, concept.vector), steps=1, robustness_views=0)


def combined(net, folder):
    both = fv.combine(first=net, second=other_network())
    fv.render(both, f"first.{first_map(net)}:0 + second.conv1:1", steps=1, param=param.Image(net.size))


def judged(net, folder):
    rendering = fv.render(net, ["logit:ant", unit(net)], steps=1, robustness_views=0)
    fv.judge(rendering, judge=other_network(), network=net, photographs=pictures(net.size[0]))


def judging(net, folder):
    plain = other_network()
    rendering = fv.render(plain, "logit:ant", steps=0, param=param.Image(net.size))
    fv.judge(rendering, judge=net, network=plain)


def other_network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return fv.Network(toys.Plain(), size=SIDE, classes=CLASSES, **toys.HALF)


def replayed(net, folder):
    recipe = fv.render(net, unit(net), steps=1).recipe
    fv.replay(recipe, network=net)


def explored(net, folder):
    """Draw one unit on the page of the explorer."""
    with (
        fv.explore(net, output=folder / "explored", open_browser=False) as running,
        closing(Client(running.url)) as client,
        client.listening(),
    ):
        answer = client.images(f"{first_map(net)}:0", size=net.size[0]).json()
        return [client.ended(image["id"]) for image in answer.get("images", ()) if "error" not in image]


def trained_head(net, folder):
    batches = [(image_of(net).repeat(2, 1, 1, 1), torch.tensor([0, 1]))] * 2
    methods.train_scouter(net, first_map(net), batches, folder / "head.safetensors")


def photograph(net):
    return pictures(net.size[0]) / "0.png"


TINY = {"steps": 1, "size": 16}
CALLS = {
    "render": rendered(),
    "render in chunks": rendered(execution=fv.Execution(chunk_size=1)),
    "render in bfloat16": rendered(execution=fv.Execution("bfloat16", channels_last=True)),
    "render without folding": rendered(execution=fv.Execution(fold=False, channels_last=False)),
    "render in tiles": rendered(param=param.Image((128, 192)), steps=1, execution=fv.Execution(tile=128)),
    "render a style": lambda net, folder: fv.render(
        net, fv.objectives.Style(first_map(net), image_of(net)[0]) + unit(net), steps=1
    ),
    "render by weights": by_weights(),
    "render by weights in chunks": by_weights(execution=fv.Execution(chunk_size=1)),
    "render by weights in tiles": by_weights(param=param.Image((128, 192)), execution=fv.Execution(tile=128)),
    "replay": replayed,
    "score": lambda net, folder: fv.score(net, ["logit:0", unit(net)], image_of(net)),
    "capture": lambda net, folder: net.capture(image_of(net).requires_grad_(), list(net.table))[""].sum().backward(),
    "session": session,
    "layers": lambda net, folder: str(net.layers()),
    "sizes": lambda net, folder: (net.fixed_size, net.smallest, net.check_size((56, 42)), net.receptive_fields()),
    "fingerprint": lambda net, folder: (net.fingerprint, net.storages, repr(net)),
    "combine": combined,
    "accentuate": lambda net, folder: fv.accentuate(net, image_of(net)[:1], unit(net), steps=2, crops=2),
    "dream": lambda net, folder: fv.dream(net, image_of(net), octaves=2, steps=1, jitter=2),
    "dream_zoom": lambda net, folder: list(fv.dream_zoom(net, image_of(net), frames=2, octaves=1, steps=1)),
    "attention": lambda net, folder: fv.attention(net, image_of(net)[:1]).save(folder / "attention.html"),
    "compare": lambda net, folder: fv.compare(
        net, image_of(net)[0], ["logit:0"], ["Gradient", "GuidedBackprop", "CAM"]
    ),
    "compare on a page": lambda net, folder: fv.compare(net, image_of(net)[0], [0], ["Gradient"]).save(
        folder / "a.html"
    ),
    "evidence": lambda net, folder: fv.evidence(net, pictures(net.size[0])),
    "fit_dictionary": lambda net, folder: fv.fit_dictionary(
        net, pictures(net.size[0]), first_map(net), features=2, steps=1, compare_seeds=False
    ),
    "with_dictionary": with_features,
    "concepts": concepts,
    "examples": lambda net, folder: fv.examples(net, pictures(net.size[0]), first_map(net), [0], top=1, rest=1),
    "diff": lambda net, folder: fv.diff(
        net,
        other_network(),
        pictures(net.size[0], 4),
        folder,
        layers=[first_map(net)],
        second_layers=["conv1"],
        most=1,
        checkpoints=[net],
        **TINY,
    ),
    "judge": judged,
    "judge as judge": judging,
    "doctor": lambda net, folder: fv.doctor(net, photographs=pictures(net.size[0])),
    "gallery": lambda net, folder: fv.gallery(net, folder, classes=["ant"], photographs=pictures(SIDE), **TINY),
    "sweep": lambda net, folder: fv.sweep(net, folder, [first_map(net)], channels=[0], **TINY),
    "unit": lambda net, folder: fv.unit(net, f"{first_map(net)}:0", pictures(net.size[0]), **TINY).save(
        folder / "u.html"
    ),
    "blocks": lambda net, folder: fv.blocks(net, photograph(net), first_map(net), folder, cells=1, groups=1, **TINY),
    "circuit": lambda net, folder: fv.circuit(net, unit(net), folder, inputs=1, depth=0, groups=1, **TINY),
    "texture": lambda net, folder: fv.texture(net, "box", f"{first_map(net)}:0", view=SIDE, views=2, **TINY),
    "explore": explored,
    "train_scouter": trained_head,
    **{
        f"explain by {name}": explained(getattr(methods, name)())
        for name in methods.__all__
        if inspect.isclass(getattr(methods, name)) and name not in ("Scouter", "IntegratedGradients", "NoiseTunnel")
    },
    "explain by IntegratedGradients": explained(methods.IntegratedGradients(steps=2)),
    "explain by NoiseTunnel": explained(methods.NoiseTunnel(methods.GuidedBackprop(), samples=2)),
}
SLOW = {
    "unit",
    "doctor",
    "explore",
    "gallery",
    "sweep",
    "blocks",
    "judge",
    "examples",
    "sizes",
    "layers",
    "circuit",
    "diff",
}
"""Calls that take more than about 0.1 s."""
ELSEWHERE = {
    "atlas": "umap takes seconds to load; it reads the network as `blocks` does",
    "dream_video": "needs a video; it calls `dream` for each frame",
    "fit_prior": "reads the input specification alone",
    "load": "makes a network",
}
