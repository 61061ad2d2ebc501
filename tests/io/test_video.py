"""Videos: errors, and files that are complete after an error."""

import gc
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featviz as fv
from featviz.io import VIDEOS, check_video, encode_gif, read_video

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes of imageio-ffmpeg
FRAMES = [np.full((32, 48, 3), 40 * i, np.uint8) for i in range(4)]


@pytest.fixture(autouse=True, scope="module")
def no_leaked_pipes():
    """Collect the pipes of imageio-ffmpeg here, where their warnings are ignored, and not within another test."""
    yield
    gc.collect()


@pytest.mark.parametrize("ending", VIDEOS)
@pytest.mark.parametrize("error", [RuntimeError("mine"), OSError("mine"), KeyboardInterrupt("mine")])
def test_after_an_error_of_the_source_the_frames_so_far_are_kept(ending, error, tmp_path):
    def frames():
        yield from FRAMES
        raise error

    path = tmp_path / f"a{ending}"
    with pytest.raises(type(error), match="^mine$"):
        fv.save_video(frames(), path, fps=10)
    assert list(tmp_path.iterdir()) == [path]
    assert len(list(read_video(path)[2])) == 4


def test_without_frames_nothing_is_written(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(fv.OutputError) as caught:
        fv.save_video([], path)
    assert str(caught.value) == f"cannot write {path}: there are no frames; render at least one"
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"old"


@pytest.mark.parametrize("ending", VIDEOS)
@pytest.mark.parametrize("fps", [0, -1.0, 1e-9, 1e9, float("nan"), float("inf")])
def test_frames_per_second_must_be_in_a_range(fps, ending, tmp_path):
    with pytest.raises(fv.SettingError) as caught:
        fv.save_video(FRAMES, tmp_path / f"a{ending}", fps=fps)
    finite = "" if math.isfinite(fps) else "a finite number "
    assert str(caught.value) == f"fps must be {finite}in [0.01, 1000], got {fps} (default 24)"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", VIDEOS)
@pytest.mark.parametrize("fps", [0.01, 1000])
def test_every_allowed_rate_can_be_written(fps, ending, tmp_path):
    assert len(list(read_video(fv.save_video(FRAMES, tmp_path / f"a{ending}", fps=fps))[2])) == len(FRAMES)


def test_frames_must_have_one_size():
    with pytest.raises(fv.SettingError) as caught:
        fv.save_video([FRAMES[0], FRAMES[1][:16]], "a.gif")
    assert str(caught.value) == "all frames must have the shape of the first, (32, 48, 3), got (16, 48, 3)"


def test_outputs_that_are_no_video(tmp_path):
    check_video(tmp_path / "a.gif")
    with pytest.raises(fv.OutputError, match=r"^cannot write .*a.png: end it in .gif, .mp4, .webm$"):
        check_video(tmp_path / "a.png")
    with pytest.raises(fv.OutputError, match=r"^cannot write no/a.gif: there is no folder no; make it first$"):
        fv.save_video(FRAMES, "no/a.gif")


def test_inputs_that_are_no_video(tmp_path):
    Image.fromarray(FRAMES[1]).save(tmp_path / "still.png")
    (tmp_path / "text.mp4").write_text("no video")
    for name, message in (
        ("none.mp4", "no file {}; check the path"),
        ("still.png", "{} is a still image; give a video, or --zoom to zoom into the image"),
        ("text.mp4", "cannot read {} as a video; give an MP4, WebM or GIF file"),
    ):
        with pytest.raises(fv.OutputError) as caught:
            read_video(tmp_path / name)
        assert str(caught.value) == message.format(tmp_path / name)


def test_missing_packages(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(fv.OutputError) as caught:
        check_video(Path("a.mp4"))
    assert str(caught.value) == "videos need imageio-ffmpeg and OpenCV; run: pip install 'featviz[video]'"
    fv.save_video(FRAMES, "a.gif")  # Pillow writes these


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile real.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreal.mp4\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_playlist_is_no_video(playlist, tmp_path):
    """ffmpeg would read the files and addresses that it names."""
    fv.save_video(FRAMES, tmp_path / "real.mp4", fps=10)
    assert read_video(tmp_path / "real.mp4")[1] == 4
    path = tmp_path / "a.mp4"
    path.write_text(playlist)
    with pytest.raises(fv.OutputError, match="cannot read .*a.mp4 as a video"):
        read_video(path)


def test_gif_files_are_written_frame_by_frame(tmp_path):
    """Both writers share one encoder, which keeps one frame at a time, and stops where the frames end."""
    taken = []

    def frames():
        for frame in FRAMES:
            taken.append(len(taken))
            yield frame

    path = fv.save_video(frames(), tmp_path / "a.gif", fps=10)
    assert path.read_bytes() == encode_gif(FRAMES, 10) and taken == list(range(len(FRAMES)))
    with Image.open(path) as opened:
        assert opened.n_frames == len(FRAMES) and opened.info["duration"] == 100 and opened.info["loop"] == 0
