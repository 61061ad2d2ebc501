"""DeepDream: images, zooms and videos."""

import inspect
import io
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import imageio.v2 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command

import featviz as fv
from featviz.apps.dream.dream import _default_layer
from featviz.apps.dream.settings import DreamSettings
from featviz.apps.dream.video import _move
from featviz.cli import app, main
from featviz.interfaces import ImageProgress
from featviz.io import read_image, read_video

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg's pipes
QUICK = {"octaves": 2, "steps": 2}
FEW = ["--octaves", "2", "--steps", "2", "--quiet"]


@pytest.fixture
def pixels(photo):
    """A drawing of 90 x 128 px in 8 bits."""
    large = torch.nn.functional.interpolate(photo[:, :3], (90, 128), mode="bilinear")[0]
    return (large * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture
def image_file(pixels, tmp_path):
    path = tmp_path / "pixels.png"
    Image.fromarray(pixels).save(path)
    return path


def test_a_dream_raises_the_objective_and_is_replayed(motifnet, image_file, tmp_path):
    rendering = fv.dream(motifnet, image_file, "stage2:5", **QUICK)
    before = torch.from_numpy(read_image(image_file))[None]
    assert rendering.images.shape == before.shape
    assert 0.01 < (rendering.images - before).abs().mean() < 0.2
    assert (rendering.history.shape, rendering.names) == ((4, 1), ("stage2:5",))
    acts = motifnet.capture(torch.cat([before, rendering.images]), ["stage2"]).channel("stage2", 5).mean((1, 2))
    assert acts[1] > acts[0]
    (file,) = rendering.save(tmp_path / "dream.png")
    again = fv.replay(file, device="cpu")
    assert again.images.equal(rendering.images)
    assert again.recipe == rendering.recipe


def test_detail_is_carried_from_octave_to_octave(motifnet, image_file):
    """The detail of small octaves is in the large image, at lower frequencies."""
    before = torch.from_numpy(read_image(image_file))[None]
    one, three = (fv.dream(motifnet, image_file, "stage3", octaves=n, steps=4).images - before for n in (1, 3))

    def coarse(detail):
        return torch.nn.functional.avg_pool2d(detail, 8).std() / detail.std()

    assert coarse(three) > 1.15 * coarse(one)


def test_tiles_show_no_seams(motifnet, image_file):
    large = torch.nn.functional.interpolate(torch.from_numpy(read_image(image_file))[None], (270, 384), mode="bilinear")
    whole, tiled = (
        fv.dream(motifnet, large, "stage2", octaves=1, steps=4, execution=fv.Execution("float32", tile=tile)).images
        - large
        for tile in (640, 160)
    )
    steps = [detail[..., 1:].sub(detail[..., :-1]).abs().mean((0, 1, 2)) for detail in (whole, tiled)]
    assert steps[1].max() < 1.3 * steps[0].max()  # no column with a larger step than without tiles
    assert (whole - tiled).abs().mean() < 0.5 * whole.abs().mean()


def test_masks_guides_and_colors(motifnet, image_file, tmp_path):
    mask = np.zeros((90, 128), np.uint8)
    mask[:, 64:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    before = torch.from_numpy(read_image(image_file))[None]
    masked = fv.dream(motifnet, image_file, mask=tmp_path / "mask.png", **QUICK)
    change = (masked.images - before).abs()
    assert change[..., :62].max() < 1e-6 < 0.01 < change[..., 66:].mean()
    mask[:] = 0
    mask[30:50, 40:70] = 255
    Image.fromarray(mask).save(tmp_path / "small.png")
    inside = torch.from_numpy(mask)[None, None] > 0
    for more in ({}, {"keep_color": True}, {"smooth": 1.0}):
        given = {**QUICK, "octaves": 3, **more}
        change = (fv.dream(motifnet, image_file, mask=tmp_path / "small.png", **given).images - before).abs()
        assert change[inside.expand_as(change)].max() > 0.01
        assert change[~inside.expand_as(change)].max() < (0.01 if more else 1e-6)
    (file,) = masked.save(tmp_path / "masked.png")
    assert fv.replay(file, device="cpu").images.equal(masked.images)

    colors = fv.dream(motifnet, image_file, keep_color=True, **QUICK).images
    chroma = [image[:, 0] - image[:, 1] for image in (before, colors)]
    free = fv.dream(motifnet, image_file, **QUICK).images
    assert (chroma[0] - chroma[1]).abs().mean() < 0.5 * (chroma[0] - (free[:, 0] - free[:, 1])).abs().mean()

    guided = fv.dream(motifnet, image_file, fv.objectives.Layer("stage2"), guide=image_file, **QUICK)
    assert str(guided.recipe.objectives[0]) == f"Guide(layer='stage2', image='{image_file}')"
    with pytest.raises(
        fv.SettingError, match=r"^with a guide, the objective must be a layer, got stage2:1; give --layer NAME$"
    ):
        fv.dream(motifnet, image_file, "stage2:1", guide=image_file)


@pytest.mark.parametrize("options", [{"smooth": 1.5}, {"laplacian": 3}, {"strength": 2.0}])
def test_smooth_laplacian_and_strength(motifnet, image_file, options):
    plain, other = (fv.dream(motifnet, image_file, **QUICK, **more).images for more in ({}, options))
    before = torch.from_numpy(read_image(image_file))[None]
    fine = [(image - before).diff(dim=3).std() / (image - before).std() for image in (plain, other)]
    if "strength" in options:
        assert (other - before).std() > 1.5 * (plain - before).std()
    else:
        assert fine[1] < (0.8 if "smooth" in options else 1) * fine[0]  # a smaller share of high frequencies


@pytest.mark.parametrize("when", [1, 2, 3])
def test_ctrl_c_returns_the_image_so_far(motifnet, image_file, when):
    reported = []

    def stop(done, total):
        reported.append((done, total))
        if len(reported) == when:
            raise KeyboardInterrupt

    rendering = fv.dream(motifnet, image_file, octaves=2, steps=2, progress=stop)
    assert rendering.recipe.until == when
    assert rendering.images.equal(fv.dream(motifnet, image_file, octaves=2, steps=2, until=when).images)
    reports = []
    fv.dream(motifnet, image_file, octaves=2, steps=2, progress=lambda *now: reports.append(now))
    assert reports[-1][0] == reports[-1][1] == reported[0][1]
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


class Watching(ImageProgress):
    """Takes the images of every step, and stops after some."""

    def __init__(self, last=99):
        self.last, self.calls, self.seen = last, [], []

    def __call__(self, done, steps):
        self.calls.append((done, steps))

    def wants_images(self, done, steps):
        assert self.calls[-1] == (done, steps)
        return True

    def show(self, done, steps, images):
        assert self.calls[-1] == (done, steps)
        self.seen.append(images)
        if len(self.seen) == self.last:
            raise KeyboardInterrupt


@pytest.mark.parametrize("keep_color", [False, True])
def test_images_are_seen_at_every_octave(motifnet, image_file, keep_color):
    options = {"octaves": 2, "steps": 2, "keep_color": keep_color}
    watching, calls = Watching(), []
    rendering = fv.dream(motifnet, image_file, progress=watching, **options)
    assert rendering.images.equal(
        fv.dream(motifnet, image_file, progress=lambda *now: calls.append(now), **options).images
    )
    assert watching.calls == calls and len(watching.seen) == 4
    sizes = [tuple(images.shape) for images in watching.seen]
    assert sizes[0] == sizes[1] != sizes[2] == sizes[3] == tuple(rendering.images.shape)
    assert torch.allclose(watching.seen[-1], rendering.images, atol=1e-5)  # with the colours that it keeps


@pytest.mark.parametrize("when", [1, 2, 3])
def test_who_sees_the_images_can_stop_the_dream(motifnet, image_file, when):
    rendering = fv.dream(motifnet, image_file, octaves=2, steps=2, progress=Watching(when))
    assert rendering.recipe.until == when
    assert rendering.images.equal(fv.dream(motifnet, image_file, octaves=2, steps=2, until=when).images)


def test_objectives_that_need_the_full_view_are_refused_with_tiles(motifnet, image_file):
    large = torch.rand(3, 100, 500, generator=torch.Generator().manual_seed(0))
    with pytest.raises(fv.SettingError, match=r"needs the full view, but a view of 100 x 500 px is cut into tiles of"):
        fv.dream(motifnet, large, fv.objectives.Match("stage2", str(image_file)), execution=fv.Execution(tile=256))


def test_a_video_that_breaks_off_keeps_its_frames(tmp_path, pixels):
    def frames():
        yield from (np.roll(pixels, 5 * i, 1) for i in range(3))
        raise OSError("the source is gone")

    with pytest.raises(OSError, match=r"^the source is gone$"):
        fv.save_video(frames(), tmp_path / "video.gif")
    assert read_video(tmp_path / "video.gif")[1] >= 1


def test_octaves():
    assert DreamSettings(octaves=3, scale=2.0).sizes((400, 200)) == [(100, 50), (200, 100), (400, 200)]
    assert DreamSettings(octaves=4, scale=2.0).sizes((100, 60)) == [(100, 60)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"octaves": 0}, "octaves must be in [1, 100], got 0 (default 4)"),
        ({"octaves": 10**12}, "octaves must be in [1, 100], got 1000000000000 (default 4)"),
        ({"scale": 1.0}, "scale must be > 1, got 1 (default 1.4)"),
        ({"strength": 0.0}, "strength must be > 0 and finite, got 0 (default 1)"),
        ({"image": torch.rand(2, 40, 40)}, "the image must have shape (3, h, w), (h, w, 3) or (h, w), got (2, 40, 40)"),
        ({"strength": float("inf")}, "strength must be a finite number, got inf"),
        (
            {"image": torch.full((3, 40, 40), 256, dtype=torch.int32)},
            "whole numbers of an image must be in 0…255, got 256…256",
        ),
        ({"steps": 0}, "steps must be >= 1, got 0 (default 10)"),
        ({"jitter": -1}, "jitter must be >= 0, got -1 (default 32)"),
        ({"smooth": -1.0}, "smooth must be >= 0, got -1 (default 0)"),
        ({"laplacian": -1}, "laplacian must be >= 0, got -1 (default 0)"),
    ],
)
def test_settings_out_of_range(motifnet, image_file, options, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.dream(motifnet, **{"image": image_file, **options})
    assert str(caught.value) == message


def save_as(pixels, kind, path):
    image = Image.fromarray(pixels)
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # stored rotated
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    elif kind == "palette":
        image.quantize(64).save(path)
    elif kind == "grey":
        image.convert("L").save(path)
    elif kind == "deep":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    else:
        image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 128).astype(np.uint8), (90, 1))))
        image.save(path)


@pytest.mark.parametrize("kind", ["turned", "palette", "grey", "deep", "alpha"])
def test_image_files_of_every_kind_are_read(kind, pixels, motifnet, tmp_path):
    path = tmp_path / "photo.png"
    save_as(pixels, kind, path)
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    if kind in ("grey", "deep"):
        expected = expected.mul(torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)
    if kind == "alpha":  # transparent images are laid over white
        alpha = torch.linspace(0, 255, 128).byte() / 255
        expected = expected * alpha + 1 - alpha
    assert (torch.from_numpy(read_image(path)) - expected).abs().mean() < (0.05 if kind == "palette" else 0.005)
    rendering = fv.dream(motifnet, path, octaves=1, steps=1)
    assert rendering.images.shape == (1, 4 if kind == "alpha" else 3, 90, 128)
    (file,) = rendering.save(tmp_path / "dream.png")
    assert fv.replay(file, device="cpu").images.equal(rendering.images)
    if kind == "alpha":
        assert rendering.images[0, 3, 0].equal(torch.linspace(0, 255, 128).byte() / 255)


def test_broken_and_animated_images_are_refused(pixels, tmp_path, capsys):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG")
    (tmp_path / "half.jpg").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    iio.mimsave(tmp_path / "moves.gif", [pixels, pixels[::-1]])
    for name, line in [
        ("half.jpg", "is truncated; was it copied completely?"),
        ("moves.gif", "is animated (2 frames); give a still image, or use featviz dream with -o FILE.gif"),
    ]:
        assert main(["dream", str(tmp_path / name), "-o", "out.png", *FEW]) == 2
        assert capsys.readouterr().err == f"featviz: {tmp_path / name} {line}\n"
        assert not Path("out.png").exists()


def save_gif(tmp_path, frames, name="in.gif"):
    return fv.save_video(frames, tmp_path / name, fps=10)


def test_fifty_still_frames_neither_flicker_nor_brighten(motifnet, pixels, tmp_path):
    small = pixels[:88:2, ::2]
    source = save_gif(tmp_path, [small] * 50, "in.mp4")
    frames = [frame.astype(float) / 255 for frame in fv.dream_video(motifnet, source, "stage2", octaves=1, steps=2)]
    assert len(frames) == 50
    changes = [np.abs(now - last).mean() for last, now in pairwise(frames)]
    added = np.abs(frames[-1] - small[..., :3] / 255).mean()
    assert max(changes[25:]) < 0.25 * added  # converged
    assert max(changes[25:]) < 0.012
    means = [frame.mean() for frame in frames]
    assert max(means) - min(means) < 0.02


def test_detail_follows_the_motion(motifnet, pixels, tmp_path):
    frames = [np.roll(pixels, 3 * i, 1) for i in range(6)]
    source = save_gif(tmp_path, frames, "in.mp4")
    moved, alone = (
        np.stack(list(fv.dream_video(motifnet, source, "stage2", octaves=1, steps=2, carry=carry))).astype(float)
        for carry in (0.7, 0.0)
    )
    shifted = [np.roll(video[4], 3, 1)[:, 20:-20] - video[5][:, 20:-20] for video in (moved, alone)]
    strength = [np.abs(video[5] - frames[5]).mean() for video in (moved, alone)]
    assert strength[0] > 1.2 * strength[1]
    assert np.abs(shifted[0]).mean() / strength[0] < np.abs(shifted[1]).mean() / strength[1]


def test_a_zoom_keeps_brightness_and_contrast(motifnet, image_file):
    frames = [
        f.astype(float) / 255 for f in fv.dream_zoom(motifnet, image_file, "stage2", frames=12, zoom=1.1, **QUICK)
    ]
    means, spreads = [frame.mean() for frame in frames], [frame.std() for frame in frames]
    before = read_image(image_file)
    assert max(abs(mean - before.mean()) for mean in means) < 0.02
    assert max(abs(spread / before.std() - 1) for spread in spreads) < 0.1
    assert {frame.shape for frame in frames} == {(90, 128, 3)}


def test_frames_rotate_counter_clockwise_and_pan_down_and_right():
    image = torch.zeros(1, 1, 8, 8)
    image[..., :2] = 1
    turned = _move(image, 1.0, 90.0, (0.0, 0.0))
    assert turned[0, 0, -2:].mean() > 0.9 > 0.1 > turned[0, 0, :6].mean()  # the left side is at the bottom
    wide = torch.zeros(1, 1, 8, 16)
    wide[..., 4, 12] = 1
    assert [2, 8] in (
        _move(wide, 1.0, 0.0, (0.25, 0.25))[0, 0] > 0.9
    ).nonzero().tolist()  # beyond the border it is mirrored
    assert (_move(wide, 2.0, 0.0, (0.0, 0.25))[0, 0] > 0.1).nonzero().float().mean(0).round().tolist() == [4, 8]


def test_arguments_of_videos_are_checked_before_the_first_frame(motifnet, image_file):
    for call, message in [
        (lambda: fv.dream_zoom(motifnet, image_file, frames=0), r"^frames must be >= 1, got 0 \(default 48\)$"),
        (lambda: fv.dream_zoom(motifnet, image_file, zoom=0.9), r"^zoom must be >= 1, got 0.9 \(default 1.03\)$"),
        (
            lambda: fv.dream_zoom(motifnet, image_file, mask="mask.png"),
            r"^mask must be left out with a zoom: the image moves and the mask does not$",
        ),
        (
            lambda: fv.dream_video(motifnet, image_file, carry=1.0),
            r"^carry must be in \[0, 1\), got 1 \(default 0.7\)$",
        ),
    ]:
        with pytest.raises(fv.SettingError, match=message):
            call()


@pytest.mark.parametrize("ending", [".gif", ".mp4", ".webm"])
def test_videos_are_written_and_read(ending, tmp_path, pixels):
    odd = pixels[:89, :127]
    path = fv.save_video((np.roll(odd, i, 1) for i in range(5)), tmp_path / f"video{ending}", fps=12.5)
    fps, count, frames = read_video(path)
    frames = list(frames)
    assert (round(fps, 1), count, len(frames)) == (12.5, 5, 5)
    assert frames[0].shape == ((89, 127, 3) if ending == ".gif" else (90, 128, 3))
    assert np.abs(frames[0][:89, :127].astype(int) - odd).mean() < 12
    assert [file.name for file in tmp_path.iterdir() if ".part" in file.name] == []


def test_a_video_with_frames_of_two_sizes_keeps_the_first(tmp_path, pixels):
    with pytest.raises(
        fv.SettingError, match=r"^all frames must have the shape of the first, \(90, 128, 3\), got \(64, 64, 3\)$"
    ):
        fv.save_video(iter([pixels, pixels[:64, :64]]), tmp_path / "video.mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["video.mp4"]


def test_the_first_image_of_a_file_with_several_is_read(tmp_path, pixels):
    for name, kind in (("a.jpg", "MPO"), ("b.tif", "TIFF")):
        others = [Image.fromarray(pixels[:48, :48])]
        Image.fromarray(pixels).save(tmp_path / name, format=kind, save_all=True, append_images=others)
        assert read_image(tmp_path / name).shape == (3, *pixels.shape[:2])


def test_the_default_layer_lies_at_two_thirds_of_the_depth():
    assert _default_layer(fv.load("motifnet", device="cpu")) == "stage3"
    assert _default_layer(fv.load("motifvit", device="cpu")) == "encoder.layers.encoder_layer_1"
    assert _default_layer(fv.load("googlenet", weights="none", device="cpu")) == "inception4d"


def test_the_command(image_file, tmp_path, capsys):
    assert main(["dream", str(image_file), "stage2:5", "-o", "d.png", *FEW]) == 0
    assert main(["replay", "d.png", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the same as the image, to the byte"
    assert main(["dream", str(image_file), "--zoom", "1.05", "--frames", "3", "-o", "zoom.gif", *FEW]) == 0
    assert main(["dream", "zoom.gif", "--layer", "stage2", "-o", "again.gif", *FEW]) == 0
    fps, count, _ = read_video("again.gif")
    assert (round(fps), count) == (25, 3)  # GIF durations are in hundredths of a second


BAD = {
    "nowhere.jpg": "no file nowhere.jpg; check the path",
    "{} --zoom 1.1 -o a.png": "--zoom writes a video, so the output must end in .gif, .mp4, .webm, got a.png",
    "{} stage2 --layer stage3": "give --layer or an objective, not both, got stage3 and 'stage2'",
    "{} -o a.gif": "{} is a still image; give a video, or --zoom to zoom into the image",
    "{} --zoom 0.9 -o a.gif": "zoom must be >= 1, got 0.9 (default 1.03)",
    "{} --frames 5 -o a.png": "--frames, --rotate and --pan need --zoom; give --zoom 1.03 as well",
    "{} --carry .2 -o a.png": "--carry needs a video as input and output and no --zoom, got {} and a.png",
    "{} --fps 5 -o a.png": "--fps needs a video as output, which must end in .gif, .mp4, .webm, got a.png",
    "{} --zoom 1.1 --pan 1 -o a.gif": "--pan must be two numbers, down and right, as 0.01,0, got '1'",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line(words, image_file, capsys):
    assert main(["dream", *words.format(image_file).split(), *FEW]) == 2
    assert capsys.readouterr().err == f"featviz: {BAD[words].format(image_file)}\n"
    assert not list(Path().glob("a.*"))


def test_the_dream_of_a_video_is_no_image(capsys):
    Path("clip.mp4").touch()
    assert main(["dream", "clip.mp4", "-o", "a.png", *FEW]) == 2
    told = "the dream of a video is a video, so the output must end in .gif, .mp4, .webm, got a.png"
    assert capsys.readouterr().err == f"featviz: {told}\n"


def test_the_command_has_the_defaults_of_the_function():
    given = {option.name: option.default for option in get_command(app).commands["dream"].params}
    for name, parameter in inspect.signature(fv.dream).parameters.items():
        if name in given and name not in ("network", "image", "objective"):
            assert given[name] == parameter.default, name


def test_missing_video_packages_are_named(tmp_path):
    (tmp_path / "x.jpg").touch()
    code = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "cv2" else real(name)
from featviz.cli import main
sys.exit(main(["dream", "x.jpg", "--zoom", "1.1", "-o", "x.mp4"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    expected = "featviz: videos need imageio-ffmpeg and OpenCV; run: pip install 'featviz[video]'\n"
    assert done.stderr == expected


class Picky(torch.nn.Module):
    """Its second half accepts images of at least 64 px."""

    def __init__(self):
        super().__init__()
        self.early, self.late = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1)
        self.sizes = []

    def forward(self, x):
        self.sizes.append(tuple(x.shape[2:]))
        x = self.early(x)
        if min(x.shape[2:]) < 64:
            raise ValueError("too small")
        return self.late(x).mean((2, 3))


@pytest.mark.parametrize(
    ("layer", "sizes"),
    [
        ("late:1", [(70, 80), (98, 112)]),
        ("early:1", [(50, 57), (70, 80), (98, 112)]),
        ("logit:1", [(70, 80), (98, 112)]),
    ],
)
def test_octaves_that_are_too_small_for_the_layer_are_left_out(layer, sizes):
    module = Picky().eval()
    net = fv.Network(module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    image = torch.rand(3, 98, 112, generator=torch.Generator().manual_seed(0))
    rendering = fv.dream(net, image, layer, octaves=4, steps=2)
    assert len(rendering.history) == 2 * len(sizes)
    assert rendering.recipe.steps == 2 * len(sizes)
    assert rendering.images.shape == (1, 3, 98, 112)
    start = image[None, :, :16, :16]
    again = fv.render(net, "early:1", start=start, steps=2, transforms=(), robustness_views=0)
    assert again.images.shape == (1, 3, 16, 16)
    with pytest.raises(fv.ModelError) as caught:
        fv.render(net, "late:1", start=start, transforms=(), steps=2)
    assert str(caught.value) == (
        "Picky does not accept images of 16x16 px; the smallest square that it accepts is 64x64"
    )


def test_a_picture_that_is_too_small_for_the_network_says_so():
    net = fv.Network(Picky().eval(), size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(fv.ModelError) as caught:
        fv.dream(net, torch.rand(3, 40, 80), "late:1", octaves=2, steps=1)
    assert str(caught.value) == (
        "Picky does not accept images of 40x80 px; the smallest square that it accepts is 64x64"
    )


def test_frames_are_rendered_in_the_neutral_state_and_the_caller_keeps_its_own(motifnet, image_file):
    frames = {}
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            made = fv.dream_zoom(motifnet, image_file, "stage2", frames=2, **QUICK)
            first = next(made)
            assert torch.get_default_dtype() == dtype
            frames[dtype] = [first, *made]
        finally:
            torch.set_default_dtype(torch.float32)
    assert all((a == b).all() for a, b in zip(*frames.values(), strict=True))


@pytest.mark.parametrize("name", ["dream_zoom", "dream_video"])
def test_settings_of_frames_are_checked(motifnet, image_file, name):
    with pytest.raises(fv.SettingError, match=r"^octaves must be a whole number, got '4'"):
        getattr(fv, name)(motifnet, image_file, octaves="4")


def test_misspelt_settings_of_videos_are_named(net, pixels):
    for call in (
        lambda: fv.dream_zoom(net, pixels, "conv2", stepz=1),
        lambda: fv.dream_video(net, "clip.mp4", "conv2", stepz=1),
    ):
        with pytest.raises(fv.SettingError, match="^no setting 'stepz' of a dream; nearest: 'steps'"):
            call()
