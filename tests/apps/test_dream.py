"""Dreams: from a photograph, at any size, still and moving."""

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
from featviz.apps.dream.dream import Dreamer, _usual_layer
from featviz.apps.dream.video import _moved
from featviz.cli import app, main
from featviz.io import read_image, read_video

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg's pipes
QUICK = {"octaves": 2, "steps": 2}
FEW = ["--octaves", "2", "--steps", "2", "--quiet"]


@pytest.fixture
def context(photo):
    """A drawing, larger, as 8-bit pixels."""
    large = torch.nn.functional.interpolate(photo[:, :3], (90, 128), mode="bilinear")[0]
    return (large * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture
def picture(context, tmp_path):
    path = tmp_path / "context.png"
    Image.fromarray(context).save(path)
    return path


def test_a_dream_changes_the_photograph_and_is_drawn_again(motifnet, picture, tmp_path):
    rendering = fv.dream(motifnet, picture, "stage2:5", **QUICK)
    before = torch.from_numpy(read_image(picture))[None]
    assert rendering.images.shape == before.shape
    assert 0.01 < (rendering.images - before).abs().mean() < 0.2
    assert (rendering.history.shape, rendering.names) == ((4, 1), ("stage2:5",))
    acts = motifnet.capture(torch.cat([before, rendering.images]), ["stage2"]).channel("stage2", 5).mean((1, 2))
    assert acts[1] > acts[0]
    (file,) = rendering.save(tmp_path / "dream.png")
    again = fv.replay(file, device="cpu")
    assert again.images.equal(rendering.images)
    assert again.recipe == rendering.recipe


def test_detail_is_carried_from_octave_to_octave(motifnet, picture):
    """What the small octaves drew is in the large picture, at their own, lower frequencies."""
    before = torch.from_numpy(read_image(picture))[None]
    one, three = (fv.dream(motifnet, picture, "stage3", octaves=n, steps=4).images - before for n in (1, 3))

    def coarse(detail):
        return torch.nn.functional.avg_pool2d(detail, 8).std() / detail.std()

    assert coarse(three) > 1.15 * coarse(one)


def test_tiles_show_no_seams(motifnet, picture):
    large = torch.nn.functional.interpolate(torch.from_numpy(read_image(picture))[None], (270, 384), mode="bilinear")
    whole, tiled = (
        fv.dream(motifnet, large, "stage2", octaves=1, steps=4, execution=fv.Execution("float32", tile=tile)).images
        - large
        for tile in (640, 160)
    )
    steps = [detail[..., 1:].sub(detail[..., :-1]).abs().mean((0, 1, 2)) for detail in (whole, tiled)]
    assert steps[1].max() < 1.3 * steps[0].max()  # no column where neighbours differ more than anywhere in the whole
    assert (whole - tiled).abs().mean() < 0.5 * whole.abs().mean()


def test_masks_guides_and_colors(motifnet, picture, tmp_path):
    mask = np.zeros((90, 128), np.uint8)
    mask[:, 64:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    before = torch.from_numpy(read_image(picture))[None]
    masked = fv.dream(motifnet, picture, mask=tmp_path / "mask.png", **QUICK)
    change = (masked.images - before).abs()
    assert change[..., :62].max() < 1e-6 < 0.01 < change[..., 66:].mean()
    (file,) = masked.save(tmp_path / "masked.png")
    assert fv.replay(file, device="cpu").images.equal(masked.images)

    colors = fv.dream(motifnet, picture, keep_color=True, **QUICK).images
    chroma = [image[:, 0] - image[:, 1] for image in (before, colors)]
    free = fv.dream(motifnet, picture, **QUICK).images
    assert (chroma[0] - chroma[1]).abs().mean() < 0.5 * (chroma[0] - (free[:, 0] - free[:, 1])).abs().mean()

    guided = fv.dream(motifnet, picture, fv.objectives.Layer("stage2"), guide=picture, **QUICK)
    assert str(guided.recipe.objectives[0]) == f"Guide(layer='stage2', picture='{picture}')"
    with pytest.raises(
        fv.SettingError, match=r"^a guide needs a layer in which to look for its features, not stage2:1;"
    ):
        fv.dream(motifnet, picture, "stage2:1", guide=picture)


@pytest.mark.parametrize("options", [{"smooth": 1.5}, {"laplacian": 3}, {"strength": 2.0}])
def test_how_the_gradient_is_followed(motifnet, picture, options):
    plain, other = (fv.dream(motifnet, picture, **QUICK, **more).images for more in ({}, options))
    before = torch.from_numpy(read_image(picture))[None]
    fine = [(image - before).diff(dim=3).std() / (image - before).std() for image in (plain, other)]
    if "strength" in options:
        assert (other - before).std() > 1.5 * (plain - before).std()
    else:
        assert fine[1] < (0.8 if "smooth" in options else 1) * fine[0]  # less grain, or more of what is below it


@pytest.mark.parametrize("when", [1, 2, 3])
def test_ctrl_c_gives_back_what_there_is(motifnet, picture, when):
    told = []

    def stop(done, total):
        told.append((done, total))
        if len(told) == when:
            raise KeyboardInterrupt

    rendering = fv.dream(motifnet, picture, octaves=2, steps=2, progress=stop)
    assert rendering.recipe.until == when
    assert rendering.images.equal(fv.dream(motifnet, picture, octaves=2, steps=2, until=when).images)
    whole = []
    fv.dream(motifnet, picture, octaves=2, steps=2, progress=lambda *now: whole.append(now))
    assert whole[-1][0] == whole[-1][1] == told[0][1]
    assert [done for done, _ in whole] == sorted(done for done, _ in whole)


def test_what_is_about_the_whole_is_not_seen_in_tiles(motifnet, picture):
    large = torch.rand(3, 100, 500, generator=torch.Generator().manual_seed(0))
    with pytest.raises(fv.SettingError, match=r"is about the view as a whole, and a view of 100 x 500 px is seen in"):
        fv.dream(motifnet, large, fv.objectives.Match("stage2", str(picture)), execution=fv.Execution(tile=256))


def test_a_film_that_breaks_off_keeps_what_there_was(tmp_path, context):
    def frames():
        yield from (np.roll(context, 5 * i, 1) for i in range(3))
        raise OSError("the source is gone")

    with pytest.raises(OSError, match=r"^the source is gone$"):
        fv.save_video(frames(), tmp_path / "film.gif")
    assert read_video(tmp_path / "film.gif")[1] >= 1


def test_octaves():
    assert Dreamer(octaves=3, scale=2.0).sizes((400, 200)) == [(100, 50), (200, 100), (400, 200)]
    assert Dreamer(octaves=4, scale=2.0).sizes((100, 60)) == [(100, 60)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"octaves": 0}, "0 octaves of 10 steps are none; give 1 or more of both"),
        ({"scale": 1.0}, "octaves 1.0 times as large do not grow; give a scale above 1, as 1.4"),
        ({"strength": 0.0}, "a strength of 0.0 is no step; give one above 0, 1 is usual"),
        ({"image": torch.rand(2, 40, 40)}, "a photograph of shape (2, 40, 40); give (3, h, w) in [0, 1]"),
        ({"strength": float("inf")}, "a strength of inf is no step; give one above 0, 1 is usual"),
        (
            {"image": torch.full((3, 40, 40), 255, dtype=torch.uint8)},
            "the photograph holds torch.uint8 from 255 to 255; give floating-point numbers in [0, 1]",
        ),
        ({"smooth": -1.0}, "smooth -1.0 and laplacian 0 are 0 or more"),
    ],
)
def test_settings_out_of_range(motifnet, picture, options, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.dream(motifnet, **{"image": picture, **options})
    assert str(caught.value) == message


def save_as(context, kind, path):
    image = Image.fromarray(context)
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # stored on its side
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
def test_any_picture_is_read_as_people_expect(kind, context, motifnet, tmp_path):
    path = tmp_path / "photo.png"
    save_as(context, kind, path)
    right = torch.from_numpy(context).permute(2, 0, 1) / 255
    right = right.mul(torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0) if kind in ("grey", "deep") else right
    assert (torch.from_numpy(read_image(path)) - right).abs().mean() < (0.05 if kind == "palette" else 0.005)
    rendering = fv.dream(motifnet, path, octaves=1, steps=1)
    assert rendering.images.shape == (1, 4 if kind == "alpha" else 3, 90, 128)
    (file,) = rendering.save(tmp_path / "dream.png")
    assert fv.replay(file, device="cpu").images.equal(rendering.images)
    if kind == "alpha":
        assert rendering.images[0, 3, 0].equal(torch.linspace(0, 255, 128).byte() / 255)


def test_broken_and_animated_pictures_are_refused(context, tmp_path, capsys):
    data = io.BytesIO()
    Image.fromarray(context).save(data, "JPEG")
    (tmp_path / "half.jpg").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    iio.mimsave(tmp_path / "moves.gif", [context, context[::-1]])
    for name, line in [
        ("half.jpg", "breaks off before its end; was it copied whole?"),
        ("moves.gif", "is animated, 2 frames; give a still picture; featviz dream takes it with -o FILE.gif"),
    ]:
        assert main(["dream", str(tmp_path / name), "-o", "out.png", *FEW]) == 2
        assert capsys.readouterr().err == f"featviz: {tmp_path / name} {line}\n"
        assert not Path("out.png").exists()


def movie(tmp_path, frames, name="in.gif"):
    return fv.save_video(frames, tmp_path / name, fps=10)


def test_fifty_still_frames_neither_flicker_nor_brighten(motifnet, context, tmp_path):
    small = context[:88:2, ::2]
    source = movie(tmp_path, [small] * 50, "in.mp4")
    frames = [frame.astype(float) / 255 for frame in fv.dream_video(motifnet, source, "stage2", octaves=1, steps=2)]
    assert len(frames) == 50
    changes = [np.abs(now - last).mean() for last, now in pairwise(frames)]
    dreamt = np.abs(frames[-1] - small[..., :3] / 255).mean()
    assert max(changes[25:]) < 0.25 * dreamt  # it has settled
    assert max(changes[25:]) < 0.012
    means = [frame.mean() for frame in frames]
    assert max(means) - min(means) < 0.02


def test_a_dream_follows_what_moves(motifnet, context, tmp_path):
    frames = [np.roll(context, 3 * i, 1) for i in range(6)]
    source = movie(tmp_path, frames, "in.mp4")
    moved, alone = (
        np.stack(list(fv.dream_video(motifnet, source, "stage2", octaves=1, steps=2, keep=keep))).astype(float)
        for keep in (0.7, 0.0)
    )
    shifted = [np.roll(film[4], 3, 1)[:, 20:-20] - film[5][:, 20:-20] for film in (moved, alone)]
    strength = [np.abs(film[5] - frames[5]).mean() for film in (moved, alone)]
    assert strength[0] > 1.2 * strength[1]
    assert np.abs(shifted[0]).mean() / strength[0] < np.abs(shifted[1]).mean() / strength[1]


def test_a_fall_keeps_its_brightness_and_its_pace(motifnet, picture):
    frames = [f.astype(float) / 255 for f in fv.dream_zoom(motifnet, picture, "stage2", frames=12, zoom=1.1, **QUICK)]
    means, spreads = [frame.mean() for frame in frames], [frame.std() for frame in frames]
    before = read_image(picture)
    assert max(abs(mean - before.mean()) for mean in means) < 0.02
    assert max(abs(spread / before.std() - 1) for spread in spreads) < 0.1
    assert {frame.shape for frame in frames} == {(90, 128, 3)}


def test_a_frame_turns_counter_clockwise_and_its_middle_moves_down_and_along():
    image = torch.zeros(1, 1, 8, 8)
    image[..., :2] = 1
    turned = _moved(image, 1.0, 90.0, (0.0, 0.0))
    assert turned[0, 0, -2:].mean() > 0.9 > 0.1 > turned[0, 0, :6].mean()  # the left is at the bottom now
    wide = torch.zeros(1, 1, 8, 16)
    wide[..., 4, 12] = 1
    assert [2, 8] in (_moved(wide, 1.0, 0.0, (0.25, 0.25))[0, 0] > 0.9).nonzero().tolist()  # the rest is mirrored
    assert (_moved(wide, 2.0, 0.0, (0.0, 0.25))[0, 0] > 0.1).nonzero().float().mean(0).round().tolist() == [4, 8]


def test_what_is_wrong_with_a_film_is_said_before_its_first_frame(motifnet, picture):
    for call, message in [
        (lambda: fv.dream_zoom(motifnet, picture, frames=0), r"^0 frames at zoom 1.03; give 1 or more frames"),
        (lambda: fv.dream_zoom(motifnet, picture, mask="mask.png"), r"^a mask lies still, and this picture moves;"),
        (lambda: fv.dream_video(motifnet, picture, keep=1.0), r"^to keep 1.0 of a dream does not autotune;"),
    ]:
        with pytest.raises(fv.SettingError, match=message):
            call()


@pytest.mark.parametrize("ending", [".gif", ".mp4", ".webm"])
def test_videos_are_written_and_read(ending, tmp_path, context):
    odd = context[:89, :127]
    path = fv.save_video((np.roll(odd, i, 1) for i in range(5)), tmp_path / f"film{ending}", fps=12.5)
    fps, count, frames = read_video(path)
    frames = list(frames)
    assert (round(fps, 1), count, len(frames)) == (12.5, 5, 5)
    assert frames[0].shape == ((89, 127, 3) if ending == ".gif" else (90, 128, 3))
    assert np.abs(frames[0][:89, :127].astype(int) - odd).mean() < 12
    assert [file.name for file in tmp_path.iterdir() if ".part" in file.name] == []


def test_a_film_of_frames_of_two_sizes_keeps_the_first_and_leaves_no_part(tmp_path, context):
    with pytest.raises(fv.SettingError, match=r"^a frame of shape \(64, 64, 3\) after \(90, 128, 3\); give frames of"):
        fv.save_video(iter([context, context[:64, :64]]), tmp_path / "film.mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_the_first_picture_of_a_file_of_several_is_read(tmp_path, context):
    for name, kind in (("a.jpg", "MPO"), ("b.tif", "TIFF")):
        others = [Image.fromarray(context[:48, :48])]
        Image.fromarray(context).save(tmp_path / name, format=kind, save_all=True, append_images=others)
        assert read_image(tmp_path / name).shape == (3, *context.shape[:2])


def test_what_is_dreamt_of_where_nothing_is_asked_for_lies_two_thirds_in():
    assert _usual_layer(fv.load("motifnet", device="cpu")) == "stage3"
    assert _usual_layer(fv.load("motifvit", device="cpu")) == "encoder.layers.encoder_layer_2"
    assert _usual_layer(fv.load("googlenet", weights="none", device="cpu")) == "inception4d"


def test_dreams_by_command(picture, tmp_path, capsys):
    assert main(["dream", str(picture), "stage2:5", "-o", "d.png", *FEW]) == 0
    assert main(["replay", "d.png", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the same as the picture, to the byte"
    assert main(["dream", str(picture), "--zoom", "1.05", "--frames", "3", "-o", "fall.gif", *FEW]) == 0
    assert main(["dream", "fall.gif", "--layer", "stage2", "-o", "again.gif", *FEW]) == 0
    fps, count, _ = read_video("again.gif")
    assert (round(fps), count) == (25, 3)  # GIFs count in hundredths of a second


BAD = {
    "nowhere.jpg": "no file nowhere.jpg",
    "{} --zoom 1.1 -o a.png": "--zoom makes a video, and a.png is none; end the name in .gif, .mp4, .webm",
    "{} stage2 --layer stage3": "both --layer stage3 and the objective 'stage2' are given; leave one out",
    "{} -o a.gif": "{} is a still picture; give a video, or --zoom to move through it",
    "{} --zoom 0.9 -o a.gif": "48 frames at zoom 0.9; give 1 or more frames, and a zoom of 1 or more",
    "{} --frames 5 -o a.png": "--frames, --rotate and --pan are of the video that --zoom makes; give --zoom 1.03 too",
    "{} --keep .2 -o a.png": "--keep is of a video that is dreamt along, and {} is none; leave it out",
    "{} --fps 5 -o a.png": "--fps is of a video, and a.png is none; end the name in .gif, .mp4, .webm",
    "{} --zoom 1.1 --pan 1 -o a.gif": "cannot read --pan '1'; give shares down and along, as 0.01,0",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line(words, picture, capsys):
    assert main(["dream", *words.format(picture).split(), *FEW]) == 2
    assert capsys.readouterr().err == f"featviz: {BAD[words].format(picture)}\n"
    assert not list(Path().glob("a.*"))


def test_the_command_has_the_defaults_of_the_function():
    given = {option.name: option.default for option in get_command(app).commands["dream"].params}
    for name, parameter in inspect.signature(fv.dream).parameters.items():
        if name in given and name not in ("network", "image", "objective"):
            assert given[name] == parameter.default, name


def test_without_what_reads_videos_it_says_what_to_install(tmp_path):
    code = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "cv2" else real(name)
from featviz.cli import main
sys.exit(main(["dream", "x.jpg", "--zoom", "1.1", "-o", "x.mp4"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    wanted = "featviz: videos need imageio-ffmpeg and OpenCV; run: pip install 'featviz[video]'\n"
    assert done.stderr == wanted
