"""Photographs: dream, explain, take apart; and those that activate a unit."""

import io
import zipfile

import numpy as np
import pytest
import toys
from explore_client import Client, wait_until
from PIL import Image

import featviz as fv


def photograph(size=(40, 60), seed=0):
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def upload(listening):
    return listening.http.post("api/uploads", content=photograph()).json()


def started(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_predictions_are_those_of_the_network(upload):
    assert (upload["width"], upload["height"]) == (60, 40)
    probabilities = [each["probability"] for each in upload["predictions"]]
    assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) == pytest.approx(1, abs=0.01)
    assert {each["name"] for each in upload["predictions"]} == set(toys.plain().classes)


def test_a_dream_is_the_one_of_the_library(listening, upload, plain_explorer):
    body = {"page": listening.page, "upload": upload["id"], "objective": "conv2:1", "octaves": 1, "steps": 3}
    job = started(listening.post("api/dream", **body, strength=2, live=True))
    assert job["state"] == "queued"
    done = listening.ended(job["id"])
    data = listening.get(done["url"]).content
    recipe = fv.Recipe.of(data)
    assert recipe.hash == job["id"] and recipe.dream["strength"] == 2
    expected = fv.dream(toys.plain(), recipe.start, "conv2:1", octaves=1, steps=3, strength=2, progress=None)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), expected.sheet())
    assert started(listening.post("api/dream", **body, strength=2))["state"] == "done"
    facts = listening.get(f"api/image/{job['id']}").json()
    call = f"fv.dream(net, {recipe.start!r}, 'conv2:1', octaves=1, steps=3, strength=2.0).save('conv2_1.png')"
    assert facts["python"].endswith(call) and facts["command"] is None
    assert started(listening.post("api/dream", **{**body, "objective": None}))["id"] != job["id"]


def test_a_dream_stops_when_it_is_cancelled(listening, upload, plain_explorer):
    body = {"page": listening.page, "upload": upload["id"], "objective": "conv2:1", "octaves": 8, "steps": 50}
    job = started(listening.post("api/dream", **body))
    listening.post("api/cancel", page=listening.page, ids=[job["id"]])
    wait_until(lambda: plain_explorer._services.worker.count == 0, 10)
    assert listening.get(f"images/{job['id']}.png").status_code == 404


def test_a_map_is_the_one_of_the_library(listening, upload, plain_explorer):
    job = started(
        listening.post(
            "api/explain", page=listening.page, upload=upload["id"], objective="logit:cat", method="gradient"
        )
    )
    done = listening.ended(job["id"])
    assert (done["target"], done["method"]) == ("logit:cat", "gradient")
    path = plain_explorer._services.uploads.path(upload["id"])
    expected = fv.explain(toys.plain(), str(path), "logit:cat", "gradient")
    assert done["score"] == pytest.approx(expected.score.item())
    shown = np.asarray(Image.open(io.BytesIO(listening.get(done["url"]).content)))
    assert np.array_equal(shown, expected.to_bytes()[0])
    facts = listening.get(f"api/image/{job['id']}").json()
    assert facts["python"] is None and facts["recipe"]["target"] == repr(fv.objectives.Logit("cat"))
    again = listening.post(
        "api/explain", page=listening.page, upload=upload["id"], objective="logit:cat", method="gradient"
    )
    assert started(again) == {"id": job["id"], "state": "done", "url": done["url"], **facts_of(done)}


def facts_of(done):
    return {key: done[key] for key in ("target", "method", "score")}


def test_a_method_that_does_not_apply_says_why(listening, upload):
    job = started(listening.post("api/explain", page=listening.page, upload=upload["id"], method="rollout"))
    assert "attention" in listening.ended(job["id"])["error"]
    unknown = listening.post("api/explain", page=listening.page, upload=upload["id"], method="RISE(masks=9**9)")
    assert unknown.status_code == 400 and unknown.json()["error"].startswith("method must be one of gradcam, gradient")


def test_the_blocks_of_a_photograph_are_a_page(listening, upload):
    pytest.importorskip("sklearn")
    body = {"page": listening.page, "upload": upload["id"], "layer": "conv2"}
    job = started(listening.post("api/blocks", **body))
    done = listening.ended(job["id"], 120)
    assert done["url"] == f"./blocks/{job['id']}/index.html"
    page = listening.get(done["url"])
    assert page.headers["content-type"].startswith("text/html") and "Content-Security-Policy" in page.text
    assert page.headers["content-security-policy"].startswith("form-action 'none'; frame-ancestors 'self'")
    assert listening.get(f"blocks/{job['id']}/photograph.webp").headers["content-type"] == "image/webp"
    assert listening.get(f"blocks/{job['id']}/precision.json").status_code == 404
    assert started(listening.post("api/blocks", **body)) == {"id": job["id"], "state": "done", "url": done["url"]}
    wrong = listening.post("api/blocks", **{**body, "layer": "head"})
    assert wrong.status_code == 400 and wrong.json()["error"].startswith("no positions in 'head'; ")


def test_an_image_may_start_from_a_photograph(listening, upload):
    answer = listening.images("conv2:1", start=upload["id"], size=20)
    (job,) = started(answer)["images"]
    assert "url" in listening.ended(job["id"])
    recipe = fv.Recipe.of(listening.get(f"images/{job['id']}.png").content)
    assert recipe.hash == job["id"] and recipe.start == fv.Recipe.TENSOR
    missing = listening.images("conv2:1", start="0123456789abcdef").json()["images"][0]
    assert missing["error"] == "there is no such photograph any more; drop it again"


def test_photographs_that_activate_a_unit_are_found_once_per_layer(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(8):
        (folder / f"photo {i}.png").write_bytes(photograph((24, 24), i))
    net = toys.plain()
    with fv.explore(net, photographs=folder, output=tmp_path / "store", open_browser=False) as running:
        client = Client(running.url)
        with client.listening():
            assert client.get("api/about").json()["has_photographs"]
            card = client.get("api/unit", layer="conv2", channel=3, page=client.page).json()
            assert (card["photographs"], card["photographs_state"]) == (None, "queued")
            client.wait(lambda event, data: event == "unit" and data == {"layer": "conv2"})
            card = client.get("api/unit", layer="conv2", channel=3).json()
            expected = fv.examples(net, folder, "conv2", [3]).places(3)
            assert [each["file"] for each in card["photographs"]] == [place.file.name for place in expected]
            assert [each["score"] for each in card["photographs"]] == [place.activation for place in expected]
            assert [client.get(each["url"]).status_code for each in card["photographs"]] == [200] * len(expected)
            assert client.get(card["photographs"][0]["whole"]).headers["content-type"] == "image/webp"
            assert client.get("api/unit", layer="conv2", channel=0).json()["photographs_state"] == "done"
        client.close()
    with pytest.raises(fv.OutputError, match="photos"):
        fv.explore(net, photographs=tmp_path / "no photos", output=tmp_path / "store", open_browser=False)


def test_the_board_is_kept_and_exported(tmp_path):
    net = toys.plain()
    with fv.explore(net, output=tmp_path / "store", open_browser=False) as running:
        client = Client(running.url)
        with client.listening():
            jobs = client.images("conv2:1", "logit:cat").json()["images"]
            for job in jobs:
                client.ended(job["id"])
        assert client.get("export.zip").json()["error"] == "the board is empty; add an image first"
        items = [{"id": job["id"], "note": note} for job, note in zip(jobs, ("<b>edge</b> & co", ""), strict=True)]
        empty = client.get("api/board").json()["revision"]
        kept = client.post("api/board", items=items, revision=empty).json()
        assert kept["items"] == items and kept["revision"] != empty
        stale = client.post("api/board", items=items[:1], revision=empty)  # what a second page read before
        assert (stale.status_code, client.get("api/board").json()) == (409, kept)
        revision = kept["revision"]
        unknown = client.post("api/board", items=[{"id": "0123456789abcdef", "note": ""}], revision=revision)
        assert (unknown.status_code, unknown.json()["error"]) == (
            404, "there is no image 0123456789abcdef to keep on the board",
        )  # fmt: skip
        for wrong in (
            [3],
            [{"id": "x"}],
            [{"id": jobs[0]["id"], "note": 3}],
            [{"id": jobs[0]["id"], "note": "a" * 501}],
            "x",
        ):
            assert client.post("api/board", items=wrong, revision=revision).status_code == 400
        assert client.post("api/board", items=items).status_code == 400
        client.close()
    with fv.explore(net, output=tmp_path / "store", open_browser=False) as running:
        client = Client(running.url)
        assert client.get("api/board").json() == kept
        url = client.post("api/board/export").json()["url"]
        answer = client.get(url)
        assert answer.headers["content-disposition"] == 'attachment; filename="featviz-board.zip"'
        client.close()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names, page = set(archive.namelist()), archive.read("index.html").decode()
        assert names == {"index.html"} | {
            file for job in jobs for file in (f"images/{job['id']}.png", f"thumbs/{job['id']}.webp")
        }
        assert "&lt;b&gt;edge&lt;/b&gt; &amp; co" in page and "<b>edge" not in page
        assert fv.Recipe.of(archive.read(f"images/{jobs[0]['id']}.png")).hash == jobs[0]["id"]


def test_a_damaged_board_is_an_empty_one(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    for text in ("{", "[]", '{"items": 3}', '{"items": [3, {"id": "../x", "note": ""}, {"id": 3}]}'):
        (store / "board.json").write_text(text)
        with fv.explore(toys.plain(), output=store, open_browser=False) as running:
            client = Client(running.url)
            assert client.get("api/board").json()["items"] == []
            client.close()
