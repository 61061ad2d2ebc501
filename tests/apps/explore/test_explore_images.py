"""Images on demand: named by their recipes, rendered once, in batches, the most urgent first."""

import re
import socket
import struct
import threading
import time
from urllib.parse import urlsplit

import httpx
import toys
from explore_client import Client, wait_until

import featviz as fv
from featviz.apps.explore.images import DRAFT_STEPS


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [image["id"] for image in answer.json()["images"]]


def test_an_image_is_rendered_and_can_be_replayed(listening, tmp_path):
    (name,) = ids(listening.images("conv2:1", steps=5))
    done = listening.ended(name)
    assert done["url"] == f"./images/{name}.png" and done["score"] is not None
    answer = listening.get(f"images/{name}.png")
    assert answer.headers["content-type"] == "image/png" and "immutable" in answer.headers["cache-control"]
    (tmp_path / "image.png").write_bytes(answer.content)
    recipe = fv.Recipe.of(tmp_path / "image.png")
    assert recipe.alone.hash == name and recipe.steps == 5 and recipe.size == (16, 16)
    assert fv.replay(recipe, network=toys.plain()).images.shape == (1, 3, 16, 16)
    assert listening.images("conv2:1", steps=5).json()["images"] == [
        {"id": name, "state": "done", "url": f"./images/{name}.png"}
    ]


def test_several_images_of_a_layer_are_rendered_together(plain_explorer, listening, monkeypatch):
    sizes = []
    from featviz.apps.explore import images

    real = images.render_batch

    def render(network, batch, store):
        sizes.append(len(batch))
        return real(network, batch, store)

    monkeypatch.setattr(images, "render_batch", render)
    monkeypatch.setattr(images, "MAX_STEP_S", 1e9)  # steps that take long would make batches smaller
    names = ids(listening.images(*(f"conv2:{i}" for i in range(8))))
    assert len(set(names)) == 8
    assert all("error" not in listening.ended(name) for name in names)
    assert sizes == [1, 2, 4, 1]  # few at first, so that something is there soon, then more at once


def test_the_images_of_a_sweep_are_there_at_once(tmp_path):
    net = toys.plain()
    for size in (None, 18):
        folder = tmp_path / f"sweep-{size}"
        made = fv.sweep(net, folder, "conv2", channels=[1, 2], size=size, steps=70, seed=3, progress=None)
        assert not made.problems
        with fv.explore(net, output=folder, open_browser=False) as running:
            client = Client(running.url)
            with client.listening():
                defaults = client.get("api/about").json()["defaults"]
                settings = {key: defaults[key] for key in ("size", "steps", "seed", "param", "transforms")}
                assert (settings["steps"], settings["seed"]) == (70, 3)
                found = client.images("conv2:1", "conv2:2", **settings).json()["images"]
                assert [image["state"] for image in found] == ["done", "done"]
            client.close()


def test_opening_the_folder_again_renders_nothing(tmp_path, monkeypatch):
    net = toys.plain()
    with fv.explore(net, output=tmp_path / "kept", open_browser=False) as running:
        client = Client(running.url)
        with client.listening():
            names = ids(client.images(*(f"conv2:{i}" for i in range(4))))
            for name in names:
                client.ended(name)
        client.close()
    monkeypatch.setattr("featviz.apps.explore.images.render_batch", None)  # whoever renders now fails
    with fv.explore(net, output=tmp_path / "kept", open_browser=False) as running:
        client = Client(running.url)
        with client.listening():
            again = client.images(*(f"conv2:{i}" for i in range(4))).json()["images"]
            assert [(image["id"], image["state"]) for image in again] == [(name, "done") for name in names]
        client.close()


def test_images_that_are_compared_come_from_one_batch(listening):
    card = listening.get("api/unit", layer="conv2", channel=1).json()
    wanted = [{**each, "size": 16, "steps": 2} for each in card["objectives"]["diverse"]]
    assert len(wanted) == 4
    names = ids(listening.post("api/images", page=listening.page, wanted=wanted))
    assert len(set(names)) == 4
    for name in names:
        assert "error" not in listening.ended(name)
    recipes = [listening.get(f"api/image/{name}").json() for name in names]
    assert [len(each["recipe"]["seeds"]) for each in recipes] == [4] * 4
    assert [each["seed"] for each in recipes] == [0, 1, 2, 3]
    assert "batch=4" in recipes[0]["python"] and "--batch 4" in (recipes[0]["command"] or "--batch 4")
    too_far = listening.images(wanted[0]["objective"], index=7).json()["images"][0]
    assert (too_far["state"], too_far["error"]) == ("failed", "index must be below 4, got 7")


def test_an_image_can_be_seen_forming(listening):
    (name,) = ids(listening.images("conv2:1", steps=400, live=True))
    listening.ended(name)
    told = [data for event, data in listening.events if event == "progress"]
    assert told and all(data["id"] == name and data["steps"] == 400 for data in told)
    assert all(re.match("data:image/jpeg;base64,/9j/", data["preview"]) for data in told)
    assert [data["done"] for data in told] == sorted({data["done"] for data in told})


def test_only_what_cannot_be_rendered_fails(listening):
    found = listening.images("conv2:1", "conv9:1", "conv2:99").json()["images"]
    assert [image["state"] for image in found] == ["queued", "failed", "queued"]
    assert found[1]["error"].startswith("no layer 'conv9' in Plain; nearest: 'conv2', 'conv1'")
    assert "url" in listening.ended(found[0]["id"])
    assert "channel" in listening.ended(found[2]["id"])["error"]


def test_urgent_work_runs_in_the_middle_of_other_work(plain_explorer, listening):
    (slow,) = ids(listening.images("conv2:0", steps=200))
    listening.wait(lambda event, data: event == "progress" and data["id"] == slow)
    (draft,) = ids(listening.images("conv2:1", steps=DRAFT_STEPS))
    listening.ended(draft)
    assert listening.post("api/check", objective="conv2:3").json()["ok"]
    listening.ended(slow)
    ended = [data["id"] for event, data in listening.events if event == "done"]
    assert ended == [draft, slow]  # the slow one went on afterwards, and lost nothing


def test_cancelled_images_leave_the_queue_or_stop_after_their_step(plain_explorer, listening):
    worker = plain_explorer._services.worker
    names = ids(listening.images("conv2:0", "conv2:1", "conv1:0", "conv1:1", steps=2048, size=32))
    listening.wait(lambda event, data: event == "progress" and data["id"] == names[0])
    assert worker.count == 4
    assert listening.post("api/cancel", page=listening.page, ids=names[2:]).json() == {}
    assert worker.count == 2
    assert listening.post("api/cancel", page=listening.page, all=True).json() == {}
    wait_until(lambda: worker.count == 0, 10)
    assert not any(event in ("done", "failed") for event, _ in listening.events)
    assert listening.get(f"images/{names[0]}.png").status_code == 404
    (name,) = ids(listening.images("conv2:0"))
    assert "url" in listening.ended(name)  # it goes on with other work


def test_closing_the_page_stops_its_work_and_not_that_of_others(plain_explorer):
    worker, one, two = plain_explorer._services.worker, Client(plain_explorer.url), Client(plain_explorer.url, "page-2")
    with two.listening():
        with one.listening():
            shared = ids(one.images("conv2:0", steps=300))[0]
            ids(one.images("conv1:0", "conv1:1", steps=2048, size=32))
            assert ids(two.images("conv2:0", steps=300)) == [shared]
        wait_until(lambda: worker.count <= 1, 10)
        assert "url" in two.ended(shared)
    wait_until(lambda: worker.count == 0, 10)
    one.close(), two.close()


def test_a_page_that_goes_before_its_request_is_planned_starts_no_work(plain_explorer):
    worker, hub, one = plain_explorer._services.worker, plain_explorer._services.hub, Client(plain_explorer.url)
    busy, plan, answers = threading.Event(), threading.Event(), []
    with one.listening():
        worker.call(lambda: (busy.set(), plan.wait()))  # planning has to wait
        assert busy.wait(10)
        asking = threading.Thread(target=lambda: answers.append(one.images("conv2:0", steps=2048, size=64)))
        asking.start()
        wait_until(lambda: len(worker._calls) == 1)
    wait_until(lambda: not hub.pages)
    plan.set()
    asking.join(10)
    (name,) = ids(answers[0])
    wait_until(lambda: worker.count == 0, 5)
    assert one.get(f"images/{name}.png").status_code == 404
    one.close()


def test_a_page_that_does_not_listen_is_told_so(client):
    answer = client.images("conv2:1")
    assert answer.status_code == 409
    assert answer.json() == {"error": "this page has no open event stream; open ./api/events first", "position": None}


def test_a_stream_that_is_opened_again_replaces_the_first(plain_explorer):
    one, again = Client(plain_explorer.url), Client(plain_explorer.url)
    with one.listening(), again.listening():
        wait_until(lambda: len(plain_explorer._services.hub.pages) == 1)
        (name,) = ids(again.images("conv2:1"))
        assert "url" in again.ended(name)
    assert [event for event, _ in one.events] == ["hello"]
    wait_until(lambda: not plain_explorer._services.hub.pages)
    one.close(), again.close()


def test_a_connection_that_breaks_at_once_is_forgotten(plain_explorer):
    parts = urlsplit(plain_explorer.url)
    for i in range(40):  # more than there may be pages
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as opened:
            request = f"GET {parts.path}api/events?page=broken-{i} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
            opened.sendall(request.encode())
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed
    wait_until(lambda: not plain_explorer._services.hub.pages)
    client = Client(plain_explorer.url)
    with client.listening():
        assert plain_explorer._services.hub.pages == [client.page]
    client.close()


def test_many_requests_leave_no_threads_behind(plain_explorer, listening):
    for i in range(5):
        ids(listening.images(f"conv2:{i}"))
    before = threading.active_count()
    for i in range(60):
        listening.get("api/unit", layer="conv2", channel=i % 8)
        listening.images(f"conv2:{i % 8}", seed=i)
    listening.post("api/cancel", page=listening.page, all=True)
    wait_until(lambda: plain_explorer._services.worker.count == 0)
    assert threading.active_count() <= before + 2  # the threads that read files start when they are needed


def test_stopping_ends_every_thread_and_frees_the_port(tmp_path):
    before = {thread.name for thread in threading.enumerate()}
    running = fv.explore(toys.plain(), output=tmp_path / "store", open_browser=False)
    client = Client(running.url)
    with client.listening():
        ids(client.images("conv2:0", steps=2048, size=64))
        started = time.monotonic()
        running.stop()
        assert time.monotonic() - started < 10
    assert {thread.name for thread in threading.enumerate()} == before
    assert repr(running) == "<Explorer: stopped>"
    assert running._repr_html_() == "<p>The explorer has been stopped.</p>"
    port = int(running.url.split(":")[2].split("/")[0])
    with fv.explore(toys.plain(), output=tmp_path / "store", port=port, open_browser=False) as again:
        assert httpx.get(f"{again.url}api/about", timeout=60).status_code == 200
    client.close()


def test_an_idle_server_does_no_work(plain_explorer, listening):
    (name,) = ids(listening.images("conv2:1"))
    listening.ended(name)
    time.sleep(0.5)
    before = time.process_time()
    time.sleep(1.5)
    assert time.process_time() - before < 0.1
