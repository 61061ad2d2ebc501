"""Write `docs/catalogue.md`: every objective, param, transform and optimizer, with an image and its code.

`make catalogue` runs all of it. Each snippet is an expression that returns a rendering; START runs before it.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import torch
from motifs.draw import draw as draw_motifs

import featviz as fv
from featviz.io import save_image, to_bytes

HERE = Path(__file__).parent
ASSETS = HERE / "catalogue"

START = """
import torch
from torchvision.transforms import v2

import featviz as fv
from featviz import objectives as obj, optimizers as Z, param, transforms as T
from featviz.io import read_image
from motifs.captions import captioned_motifs  # in tools/
from motifs import planted  # in tools/
from motifs.vae import LATENT, MotifDecoder  # in tools/

net = fv.load("motifnet")
drawing = "docs/catalogue/drawing.png"
texture = "docs/catalogue/texture.png"
mask = "docs/catalogue/mask.png"
prior = "docs/catalogue/prior.json"  # featviz fit-prior FOLDER
decoder = "docs/catalogue/vae.safetensors"  # python -m motifs.vae FILE
near = (T.Jitter(6), T.Rotate(5))  # for objectives that depend on position
three = param.Image(128, batch=3)
vector = net.capture(torch.from_numpy(read_image(drawing))[None], ["stage3"]).channels_first("stage3")[0].mean((1, 2))
pattern = vector.view(-1, 1, 1).expand(-1, 4, 4)
dictionary = fv.Dictionary.load("docs/catalogue/features.safetensors")  # featviz dictionary FOLDER --layer stage3
with_features = net.with_dictionary("stage3", dictionary)
signals, volumes, clips = planted.signals(), planted.volumes(), planted.clips()  # one kernel each
captioned = captioned_motifs()  # stands for fv.load("open_clip/ViT-B-32/laion2b_s34b_b79k"), which needs featviz[clip]
""".strip()

SNIPPETS: dict[str, dict[str, str]] = {
    "objectives": {
        "Neuron": 'fv.render(net, obj.Neuron("stage3", 40, (3, 3)), param=param.Image(64), transforms=near)',
        "Channel": 'fv.render(net, obj.Channel("stage3", 40), param=three)',
        "Layer": 'fv.render(net, obj.Layer("stage3") - 2 * obj.L2(), param=three)',
        "Logit": 'fv.render(net, obj.Logit("flower"), param=three)',
        "Probability": 'fv.render(net, obj.Probability("flower"), param=three)',
        "Cosine": 'fv.render(net, obj.Cosine("stage3", vector), param=three)',
        "Direction": 'fv.render(net, obj.Direction("stage3", vector, power=2), param=three)',
        "DirectionNeuron": (
            'fv.render(net, obj.DirectionNeuron("stage3", vector, (3, 3), power=2), param=param.Image(64), '
            "transforms=near)"
        ),
        "TensorDirection": (
            'fv.render(net, obj.TensorDirection("stage3", pattern), param=param.Image(128), transforms=near)'
        ),
        "ActivationWeights": (
            'fv.render(net, obj.ActivationWeights("stage3", vector, at=(6, 6), patch=(4, 8)), param=param.Image(128), '
            "transforms=near)"
        ),
        "Interpolate": (
            'fv.render(net, "interpolate(logit:rings, logit:sunburst) + alignment(stage2)", '
            "param=param.Image(128, batch=5, spatial=param.Shared()))"
        ),
        "Text": 'fv.render(captioned, obj.Text("a drawing of a star"), param=three)',
        "Alignment": (
            'fv.render(net, obj.Interpolate(obj.Logit("leaf"), obj.Logit("heart")) + 5 * obj.Alignment("stage2"), '
            "param=param.Image(128, batch=5))"
        ),
        "Diversity": (
            'fv.render(net, obj.Logit("spiral") * (1.5 + obj.Diversity("stage2")), param=param.Image(128, batch=4))'
        ),
        "Match": 'fv.render(net, obj.Match("stage2", drawing) - obj.TotalVariation(), transforms=())',
        "MatchDistribution": (
            'fv.render(net, obj.Logit("flower") + 40 * obj.MatchDistribution("stem", texture, "stage1"), param=three)'
        ),
        "MatchSpectrum": 'fv.render(net, obj.Logit("flower") + 40 * obj.MatchSpectrum(texture), param=three)',
        "MatchStatistics": (
            'fv.render(net, obj.Logit("flower") + 20 * obj.MatchStatistics("stem.1", "stage1.1.norm1"), param=three)'
        ),
        "Guide": (
            'fv.render(net, obj.Guide("stage2", texture), param=param.Image(128, spatial=param.Pixel(), '
            "color=param.Clamped()), start=drawing, transforms=T.Roll(8), steps=40, "
            "optimizer=Z.Normalized(Z.Ascent(lr=0.01)))"
        ),
        "Caricature": 'fv.render(net, obj.Caricature("stage3", drawing), param=param.Image(128), transforms=near)',
        "Style": (
            'fv.render(net, obj.Style("stage1", texture) + obj.Style("stage2", texture), param=param.Image(128), '
            "transforms=near)"
        ),
        "InputDifference": (
            'fv.render(net, obj.Logit("star") - 2000 * obj.InputDifference(drawing), param=param.Image(128), '
            "transforms=near)"
        ),
        "TotalVariation": 'fv.render(net, obj.Logit("flower") - 40 * obj.TotalVariation(), param=three)',
        "L1": 'fv.render(net, obj.Logit("flower") - 20 * obj.L1(), param=three)',
        "L2": 'fv.render(net, obj.Logit("flower") - 50 * obj.L2(), param=three)',
        "Blur": 'fv.render(net, obj.Logit("flower") - 500 * obj.Blur(3), param=three)',
        "BoundaryComplexity": 'fv.render(net, obj.Logit("flower") - 100 * obj.BoundaryComplexity(), param=three)',
        "Opacity": 'fv.render(net, obj.Logit("flower") - 8 * obj.Opacity(), param=param.Alpha(three))',
        "Within": ('fv.render(net, obj.Within(obj.Channel("stage3", 40), mask) - obj.L2(), param=param.Image(128))'),
        "Ramp": 'fv.render(net, obj.Logit("flower") - obj.Ramp(0, 80, begin=0.5) * obj.TotalVariation(), param=three)',
    },
    "features": {
        "Feature": (
            'fv.render(with_features, ["stage3~30", f"stage3:{int(dictionary.decoder[30].argmax())}"], '
            "param=param.Image(128))"
        ),
        "FeatureNeuron": ('fv.render(with_features, "stage3~30@3,3", param=param.Image(64, batch=3), transforms=near)'),
    },
    "axes": {
        "Signal": 'fv.render(signals, "logit:0 - 1000*l2")',
        "SignalFourier": (
            'fv.render(signals, "logit:0 - 1000*l2", '
            "param=param.Image((512,), spatial=param.Fourier(decay=2.0), color=param.Standardized()), seed=1)"
        ),
        "SignalPixel": (
            'fv.render(signals, "logit:0", param=param.Image((256,), spatial=param.Pixel(), color=param.Plain()))'
        ),
        "SignalStretch": (
            'fv.render(signals, "logit:0 - 1000*l2", transforms=(T.Jitter(16), T.Scale(T.LogUniform(0.5, 2))))'
        ),
        "SignalNoise": (
            'fv.render(signals, "logit:0 - 1000*l2", transforms=(T.Jitter(16), T.Noise(0.1), T.Contrast(0.5)))'
        ),
        "Volume": (
            'fv.render(volumes, "0:0@center - 16000*l2", '
            "transforms=(T.Rotate(10), T.Scale(T.LogUniform(0.9, 1.1)), T.Contrast(0.3)))"
        ),
        "VolumePyramid": (
            'fv.render(volumes, "0:0@8,4,11 - 16000*l2", '
            "param=param.Image((16, 16, 16), spatial=param.Pyramid()), transforms=())"
        ),
        "VolumeShift": ('fv.render(volumes, "logit:0 - 16000*l2", transforms=(T.Shift(0.2), T.GaussianBlur(0.5)))'),
        "Video": (
            'fv.render(clips, "logit:0", param=param.Image((8, 32, 32), spatial=param.Fourier(decay=(0.9, 1.4, 1.4))))'
        ),
        "VideoSlow": (
            'fv.render(clips, "logit:0", param=param.Image((8, 32, 32), spatial=param.Fourier(decay=(3.0, 1.4, 1.4))))'
        ),
        "VideoScale": (
            'fv.render(clips, "logit:0", transforms=(T.Jitter(4), T.Scale(T.LogUniform(0.8, 1.3), axes=2)))'
        ),
    },
    "param": {
        "Image": 'fv.render(net, "logit:heart", param=param.Image((96, 160)))',
        "Fourier": 'fv.render(net, "logit:heart", param=param.Image(128, batch=3, spatial=param.Fourier()))',
        "Pixel": 'fv.render(net, "logit:heart", param=param.Image(128, batch=3, spatial=param.Pixel()))',
        "Pyramid": 'fv.render(net, "logit:heart", param=param.Image(128, batch=3, spatial=param.Pyramid()))',
        "Phase": 'fv.render(net, "logit:heart", param=param.Image(128, batch=3, spatial=param.Phase()))',
        "CPPN": (
            'fv.render(net, "logit:heart", param=param.Image(64, batch=3, spatial=param.CPPN()), steps=256).at(128)'
        ),
        "Generator": (
            'fv.render(net, "logit:heart", param=param.Generator(MotifDecoder, LATENT, decoder, batch=3), lr=0.1, '
            "transforms=(T.Shift(0.2), T.Rotate(15), T.Scale(T.LogUniform(0.8, 1.25)), T.ColorShift(0.3)))"
        ),
        "Shared": (
            'fv.render(net, "interpolate(logit:heart, logit:leaf)", '
            "param=param.Image(128, batch=5, spatial=param.Shared()))"
        ),
        "Alpha": 'fv.render(net, "logit:heart - 8 * opacity", param=param.Alpha(three))',
        "Masked": 'fv.render(net, "logit:heart", param=param.Masked(mask, param.Image(128)), start=drawing)',
        "Stack": (
            'fv.render(net, "logit:eye * (1.5 + diversity(stage2))", '
            "param=param.Stack((drawing,), param.Image(128, batch=3)))"
        ),
        "Decorrelated": (
            'fv.render(net, "logit:heart", param=param.Image(128, batch=3, spatial=param.Fourier(prior=prior)))'
        ),
        "Plain": 'fv.render(net, "logit:heart", param=param.Image(128, batch=3, color=param.Plain()))',
        "Standardized": (
            'fv.render(net, "logit:heart", param=param.Image(128, batch=3, color=param.Standardized(most=0.5)))'
        ),
        "Clamped": (
            'fv.render(net, "stage3", param=param.Image(128, spatial=param.Pixel(), color=param.Clamped()), '
            "start=drawing, transforms=T.Roll(8), steps=20, optimizer=Z.Normalized(Z.Ascent(lr=0.01)))"
        ),
    },
    "transforms": {
        "NONE": 'fv.render(net, "logit:star", param=three, transforms=T.NONE)',
        "LUCID": 'fv.render(net, "logit:star", param=three, transforms=T.LUCID)',
        "NEAR": 'fv.render(net, "logit:star", param=three, transforms=T.NEAR)',
        "STANDARD": 'fv.render(net, "logit:star", param=three, transforms=T.STANDARD)',
        "Jitter": 'fv.render(net, "logit:star", param=three, transforms=T.Jitter(16))',
        "Roll": 'fv.render(net, "logit:star", param=three, transforms=T.Roll(64))',
        "Shift": 'fv.render(net, "logit:star", param=three, transforms=T.Shift(0.3))',
        "Rotate": 'fv.render(net, "logit:star", param=three, transforms=T.Rotate(30))',
        "Scale": 'fv.render(net, "logit:star", param=three, transforms=T.Scale(T.LogUniform(0.6, 3)))',
        "Flip": 'fv.render(net, "logit:star", param=three, transforms=(*T.STANDARD, T.Flip()))',
        "Pad": 'fv.render(net, "logit:star", param=three, transforms=(T.Pad(16), T.Jitter(32)))',
        "Crop": 'fv.render(net, "logit:star", param=three, transforms=(T.Rotate(20), T.Crop(16)))',
        "CropOrPadTo": 'fv.render(net, "logit:star", param=three, transforms=(T.Jitter(16), T.CropOrPadTo((160, 96))))',
        "Resize": 'fv.render(net, "logit:star", param=three, transforms=(T.Jitter(16), T.Resize((64, 64))))',
        "ResizedView": (
            'fv.render(net, "logit:star", param=param.Image(256, batch=2, spatial=param.Phase()), '
            "transforms=(T.ResizedView(T.LogUniform(1, 4), size=(64, 64), whole=0.25), T.ColorShift(0.3)))"
        ),
        "ColorShift": 'fv.render(net, "logit:star", param=three, transforms=(T.Jitter(16), T.ColorShift(0.4)))',
        "Contrast": 'fv.render(net, "logit:star", param=three, transforms=(T.Jitter(16), T.Contrast(0.5)))',
        "GaussianBlur": (
            'fv.render(net, "logit:star", param=three, transforms=(T.Jitter(16), T.GaussianBlur(T.Uniform(0.5, 2))))'
        ),
        "Noise": 'fv.render(net, "logit:star", param=three, transforms=(T.Jitter(16), T.Noise(0.1)))',
        "UniformNoise": ('fv.render(net, "logit:star", param=three, transforms=(T.Jitter(16), T.UniformNoise(0.2)))'),
        "CompositeAlpha": (
            'fv.render(net, "logit:star - 6 * opacity", param=param.Alpha(three), '
            "transforms=(T.CompositeAlpha(), T.Jitter(16)))"
        ),
        "ModuleTransform": (
            'fv.render(net, "logit:star", param=three, transforms=(T.Jitter(16), v2.RandomPerspective(p=1.0)))'
        ),
        "MeshView": (
            'fv.render(net, "logit:star", param=param.Image(256), transforms=(T.MeshView("torus"), *T.STANDARD))'
        ),
        "Warp": 'fv.render(net, "logit:star", param=three, transforms=T.Warp((T.Shift(0.2), T.Rotate(20))))',
        "Uniform": 'fv.render(net, "logit:star", param=three, transforms=T.Rotate(T.Uniform(80, 100)))',
        "LogUniform": 'fv.render(net, "logit:star", param=three, transforms=T.Scale(T.LogUniform(0.5, 1)))',
        "OneOf": 'fv.render(net, "logit:star", param=three, transforms=T.Rotate(T.OneOf((0, 90, 180))))',
    },
    "optimizers": {
        "Adam": 'fv.render(net, "logit:moon", param=three, optimizer=Z.Adam(lr=0.08))',
        "Ascent": 'fv.render(net, "logit:moon", param=three, optimizer=Z.Ascent(lr=2.0))',
        "Normalized": 'fv.render(net, "logit:moon", param=three, optimizer=Z.Normalized(Z.Ascent(lr=0.01)))',
        "Smoothed": (
            'fv.render(net, "logit:moon", param=param.Image(128, batch=3, spatial=param.Pixel()), '
            "optimizer=Z.Smoothed(2.0, Z.Normalized(Z.Ascent(lr=0.02))))"
        ),
        "LaplacianNormalized": (
            'fv.render(net, "logit:moon", param=param.Image(128, batch=3, spatial=param.Pixel()), '
            "optimizer=Z.LaplacianNormalized(5, Z.Normalized(Z.Ascent(lr=0.02))))"
        ),
        "Clipped": 'fv.render(net, "logit:moon", param=three, optimizer=Z.Clipped(0.01, Z.Ascent(lr=4.0)))',
    },
}
"""Each public item, and what draws it."""

FEATURE_LINES = {
    "Feature": "A feature of a dictionary, and beside it the channel that is strongest in its atom.",
    "FeatureNeuron": "A feature at one position.",
}
"""What the entries about dictionaries show."""

AXES_LINES = {
    "Signal": "A signal. The only kernel of the network is a chirp, whose frequency rises.",
    "SignalFourier": "A signal of 512 samples, whose spectrum falls with the square of the frequency.",
    "SignalPixel": "A signal whose samples are optimised one by one, without a limit on its power.",
    "SignalStretch": "A signal that is stretched and compressed in time at each step.",
    "SignalNoise": "A signal in noise, and of changing amplitude.",
    "Volume": "A volume: its middle slices across z, y and x, and the maximum along z. The only kernel is a ring.",
    "VolumePyramid": "A volume that is a sum of several resolutions, for a neuron that has an index for each axis.",
    "VolumeShift": "A volume that is shifted along its three axes, and blurred.",
    "Video": "A video, in frames from left to right. The only kernel is a bar that moves to the right.",
    "VideoSlow": "A video whose spectrum falls faster along time than in space.",
    "VideoScale": "A video that is scaled in space, and keeps its time.",
}
"""What the entries about signals, volumes and video show."""

PARAM_TEXTS = {
    "Generator": "Generator(MotifDecoder, (8, 8, 8), 'vae.safetensors')",
    "Masked": "Masked('mask.png')",
    "Stack": "Stack(('drawing.png',))",
    "Decorrelated": "Fourier(prior='prior.json')",
    "Plain": "Image(color=Plain())",
    "Standardized": "Image(color=Standardized(most=0.5))",
    "Clamped": "Image(spatial=Pixel(), color=Clamped())",
}
"""Command-line form of params that are more than a name."""

TITLES = {
    "objectives": "Objectives: what to maximise",
    "features": "Features of a dictionary: what a sparse autoencoder finds in a layer",
    "axes": "Signals, volumes and video: params and transforms on one and three axes",
    "param": "Parameterizations: what is optimised",
    "transforms": "Transforms: random augmentations between the image and the network",
    "optimizers": "Optimizers: how the image follows its gradient",
}


def home(section: str) -> Any:
    """Return the module of a section."""
    return getattr(fv, section)


def line(section: str, name: str) -> str:
    """Return the first line of an item's docstring."""
    if section == "features":
        return FEATURE_LINES[name]
    if section == "axes":
        return AXES_LINES[name]
    value = getattr(home(section), name)
    if inspect.isclass(value):
        return inspect.getdoc(value).split("\n")[0]
    from featviz.transforms import presets

    source = inspect.getsource(presets)  # a preset: the text below its definition
    return source.split(f"\n{name}: Transforms", 1)[1].split('"""', 1)[1].split("\n")[0].removesuffix('"""')


def text_form(rendering: fv.Rendering, section: str, name: str) -> str:
    """Return the command-line form of an item; empty if it has none."""
    recipe = rendering.recipe
    if section == "axes":  # these networks are made in Python
        return ""
    if section in ("objectives", "features"):
        try:
            return str(fv.objectives.parse(rendering.names[0]))
        except fv.FeatvizError:  # it contains arrays
            return ""
    if section == "transforms":
        whole = name.lower() if name.isupper() else recipe.transforms
        return "" if name == "ModuleTransform" else f'--transforms "{whole}"'
    if section == "optimizers":
        return f'--optimizer "{recipe.optimizer}"'
    start = f" --start {recipe.start}" if recipe.start else ""
    if name == "Generator":
        start += f' --lr 0.1 --transforms "{recipe.transforms}" --own tools/motifs/vae.py:MotifDecoder'
    return f'--param "{PARAM_TEXTS.get(name, name.lower())}"{start}'


def draw(section: str, name: str, **changes: Any) -> fv.Rendering:
    """Run a snippet."""
    space: dict[str, Any] = {}
    exec(START, space)
    if changes:
        whole = fv.render
        space["fv"] = type("Shorter", (), {"__getattr__": lambda _, item: getattr(fv, item)})()
        vars(space["fv"])["render"] = lambda *a, **k: whole(*a, **{**k, **changes})
    return eval(SNIPPETS[section][name], space)


def page() -> str:
    """Return the page about the existing images."""
    parts = ["# Catalogue\n", f"{INTRODUCTION}\n", f"```python\n{START}\n```\n"]
    for section, snippets in SNIPPETS.items():
        parts.append(f"## {TITLES[section]}\n")
        for name, code in snippets.items():
            parts.append(f"### {name}\n\n{line(section, name)}\n")
            parts.append(f"![{name}](catalogue/{name}.webp)\n")
            if text := text_form(draw(section, name, steps=0), section, name):
                parts.append(f"`{text}`\n")
            parts.append(f"```python\n{code}\n```\n")
    return "\n".join(parts)


INTRODUCTION = """
Every objective, image parameterization, transform and optimizer, with an image rendered on the bundled network, its
command-line form, and the code. `make catalogue` writes this page. Every snippet runs after these lines:
""".strip()


def assets() -> None:
    """Make the files that the snippets use: an eye, a texture, a mask, a prior and a dictionary of drawings."""
    ASSETS.mkdir(exist_ok=True)
    classes = fv.load("motifnet").classes
    for name, motif in (("drawing", "eye"), ("texture", "giraffe")):
        label = torch.tensor([classes.index(motif)])
        picture = draw_motifs(label, (128, 128), torch.Generator().manual_seed(1))[0]
        iio.imwrite(ASSETS / f"{name}.png", (picture.permute(1, 2, 0) * 255).byte().numpy())
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    disc = (torch.hypot(rows - 44, columns - 84) < 34).float() * 255
    iio.imwrite(ASSETS / "mask.png", disc.byte().numpy())
    many = draw_motifs(torch.arange(216) % len(classes), (128, 128), torch.Generator().manual_seed(2))
    fv.fit_prior(many, size=128).save(ASSETS / "prior.json")
    with tempfile.TemporaryDirectory() as folder:
        drawings = draw_motifs(torch.arange(540) % len(classes), (64, 64), torch.Generator().manual_seed(3))
        for i, drawing in enumerate(drawings):
            save_image(to_bytes(drawing.numpy()), Path(folder, f"{i:03d}.png"))
        fitted = fv.fit_dictionary(
            fv.load("motifnet"), folder, "stage3", features=32, kind="archetypal", k=4, steps=500, compare_seeds=False
        )
    fitted.save(ASSETS / "features.safetensors")


def main() -> None:
    """Render everything, or what is named, and write the page."""
    assets()
    for section, snippets in SNIPPETS.items():
        for name in snippets:
            if not sys.argv[1:] or name in sys.argv[1:]:
                draw(section, name, progress=fv.progress_bar(name)).save(ASSETS / f"{name}.webp", labels=False)
    (HERE / "catalogue.md").write_text(page())


if __name__ == "__main__":
    main()
