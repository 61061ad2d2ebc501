"""What the server refuses: other pages, other paths, files, code, and more work than it can do."""

import io
import json
import socket
import struct
import zlib
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import torch
import toys
from explore_client import Client, wait_until
from PIL import Image

import featviz as fv
from featviz.apps.explore.requests import MAX_BODY, MAX_TEXT
from featviz.apps.explore.uploads import MAX_SIDE, MAX_UPLOAD
from featviz.apps.explore.worker import MAX_JOBS


@pytest.fixture(scope="module")
def shared_explorer(tmp_path_factory):
    torch.set_num_threads(1)
    with fv.explore(toys.plain(), output=tmp_path_factory.mktemp("store"), open_browser=False) as running:
        yield running


@pytest.fixture
def plain_explorer(shared_explorer):
    """One explorer for all tests of this file, idle at the start of each."""
    services = shared_explorer._services
    wait_until(lambda: not services.hub.pages and services.worker.count == 0)
    return shared_explorer


def error(answer, status):
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert set(found) == {"error", "position"} and "\n" not in found["error"]
    return found["error"]


def raw(url, *lines):
    """Send a request as it is, and return the status and the body: httpx would tidy it up."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as opened:
        opened.sendall("\r\n".join([*lines, "", ""]).encode())
        data = b""
        while b"\r\n\r\n" not in data:
            received = opened.recv(65536)
            assert received, data
            data += received
        return int(data.split()[1]), data


# ------------------------------------------------------------------------------------------ who may ask


def test_the_token_is_needed_and_long(plain_explorer):
    url = urlsplit(plain_explorer.url)
    token = url.path.strip("/")
    assert len(token) >= 32
    base = f"http://{url.netloc}"
    for path in ("/", "/api/about", "/wrong/", f"/{token[:-1]}/", f"/{token}x/api/about", "/é/", f"//{token}/"):
        assert error(httpx.get(base + path), 404) == "nothing here; open the address that featviz printed"
    assert httpx.get(f"{base}/{token}", follow_redirects=False).headers["location"] == f"/{token}/"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "[::1]", ""])
def test_other_hosts_are_refused(plain_explorer, host):
    """A page that points its own name at this machine (DNS rebinding) sends its name as Host."""
    answer = httpx.get(f"{plain_explorer.url}api/about", headers={"host": host})
    if answer.headers["content-type"] == "application/json":  # an empty one is refused by the protocol already
        assert error(answer, 421) == "this server answers to 127.0.0.1 and localhost only"
    assert answer.status_code in (400, 421)


def test_localhost_is_this_machine_too(plain_explorer):
    port = urlsplit(plain_explorer.url).port
    assert httpx.get(f"{plain_explorer.url}api/about", headers={"host": f"localhost:{port}"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", ""])
def test_other_origins_are_refused(plain_explorer, origin):
    for call in (httpx.get, httpx.post):
        answer = call(f"{plain_explorer.url}api/about", headers={"origin": origin})
        assert error(answer, 403) == "this server answers to its own page only"


def test_its_own_origin_is_accepted(plain_explorer):
    url = urlsplit(plain_explorer.url)
    answer = httpx.get(f"{plain_explorer.url}api/about", headers={"origin": f"http://{url.netloc}"})
    assert answer.status_code == 200


def test_requests_across_sites_are_refused_but_links_to_the_page_work(plain_explorer):
    across = {"sec-fetch-site": "cross-site"}
    for path in ("", "api/about", "static/index.html", "images/0123456789abcdef.png"):
        answer = httpx.get(plain_explorer.url + path, headers=across)
        assert error(answer, 403) == "this server answers to its own page only"
    link = across | {"sec-fetch-mode": "navigate"}
    assert httpx.get(plain_explorer.url, headers=link).status_code == 200
    assert httpx.get(f"{plain_explorer.url}api/about", headers=link).status_code == 403
    for site in ("same-origin", "none", "same-site"):
        assert httpx.get(f"{plain_explorer.url}api/about", headers={"sec-fetch-site": site}).status_code == 200


def test_every_answer_has_the_headers_of_a_safe_page(client):
    for path in ("", "api/about", "nothing", "static/index.html"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers and "server" not in headers


def test_it_listens_on_this_machine_only(plain_explorer):
    assert plain_explorer._listening.getsockname()[0] == "127.0.0.1"


# ------------------------------------------------------------------------------------------ paths

PATHS = (
    "static/../services.py", "static/..%2fservices.py", "static/%2e%2e/services.py", "static/..\\services.py",
    "static//etc/passwd", "static/nothing.js", "static/", "images/../board.json", "images/..%2f..%2fboard.json",
    "images/board.json", "images/0123456789abcdef.png", "images/0123456789ABCDEF.png", "images/0123456789abcdef",
    "images/%00.png", "uploads/..%2fboard.json.png", "uploads/0123456789abcdef.png", "crops/0123456789abcdef.webp",
    "blocks/0123456789abcdef/index.html", "blocks/0123456789abcdef/../../board.json",
    "blocks/..%2f..%2f/board.json", "blocks/0123456789abcdef/%2fetc%2fpasswd", "api/image/../about", "api/image/x",
    "api/image/0123456789abcdef", "api/nothing", "board.json", "precision.json",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_reaches_a_file(plain_explorer, path):
    url = urlsplit(plain_explorer.url)
    status, data = raw(plain_explorer.url, f"GET {url.path}{path} HTTP/1.1", f"Host: {url.netloc}", "Connection: close")
    assert status == 404 and b"root:" not in data and b"import" not in data


def test_other_methods_are_refused(plain_explorer):
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = httpx.request(method, f"{plain_explorer.url}api/about")
        assert error(answer, 405) == "this server answers to GET and POST only"
    assert error(httpx.post(f"{plain_explorer.url}api/about"), 405) == "this address does not answer to that method"


# ------------------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize(
    "body", ["", "[]", "3", "{", "nan", '{"objective": NaN}', '{"a": Infinity}', "[" * 50_000, "9" * 5000, "\xff\xfe"]
)
def test_bodies_that_are_no_json_objects_are_refused(client, body):
    answer = client.http.post("api/check", content=body.encode("latin-1"), headers={"content-type": "application/json"})
    assert error(answer, 400) == "the body must be a JSON object"


def test_bodies_must_say_that_they_are_json(client):
    """A form of another page can send text without being asked, but not this type."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = client.http.post("api/check", content=b"{}", headers={"content-type": kind})
        assert error(answer, 415) == "the body must be JSON, with content-type: application/json"


def test_large_bodies_are_refused_whatever_they_say_of_themselves(client):
    headers = {"content-type": "application/json"}
    big = json.dumps({"objective": "a" * MAX_BODY})
    assert error(client.http.post("api/check", content=big, headers=headers), 413) == "at most 64 kB are accepted"

    def chunks():  # sent without a length
        for _ in range(MAX_BODY // 1024 + 8):
            yield b"a" * 1024

    assert error(client.http.post("api/check", content=chunks(), headers=headers), 413) == "at most 64 kB are accepted"
    too_big = b"\x89PNG" + b"\0" * MAX_UPLOAD
    assert error(client.http.post("api/uploads", content=too_big), 413) == "at most 20480 kB are accepted"


WRONG = {
    "objective": [None, 3, [], {}, "", "a" * (MAX_TEXT + 1), "conv2:", "(", "conv2:1 conv2"],
    "size": [0, -1, 15, 513, 10**9, 1.5, "16", True, [16], [16, 16, 16], [16, 9999], {}],
    "steps": [-1, 2049, 10**30, 1.5, "2", False, None, []],
    "seed": [-1, 2**31, 0.5, "0", True],
    "param": ["Fourier(decay=1)", "pixels", 3, [], "__import__('os')"],
    "transforms": ["(Pad(8),)", 3, [], "Jitter"],
    "start": ["../../etc/passwd", "x", 3, "0123456789ABCDEF"],
    "live": ["yes", 1, []],
    "index": [-1, 16, "0"],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_values_out_of_bounds_are_refused(plain_explorer, listening, field, value):
    text = error(listening.images("conv2:1", **{field: value}), 400)
    assert field in text or field == "objective" or value in ([16], [16, 16, 16], [16, 9999], {})
    assert plain_explorer._services.worker.count == 0


@pytest.mark.parametrize("wanted", [None, {}, "conv2:1", [3], [None], [[]], [{"objective": "conv2:1"}] * 257])
def test_lists_of_images_are_checked(listening, wanted):
    error(listening.post("api/images", page=listening.page, wanted=wanted), 400)


@pytest.mark.parametrize("page", [None, "", "a" * 65, "a b", "../x", "é", "<script>"])
def test_ids_of_pages_are_checked(client, page):
    error(client.post("api/images", page=page, wanted=[]), 400)
    error(client.post("api/images", page=3, wanted=[]), 400)
    assert client.http.get("api/events", params={"page": page}).status_code == 400


CODE = (
    "__import__('os').system('touch hacked')", "exec('1')", "eval(1)", "open('/etc/passwd')", "conv2:1 + __import__",
    "lambda: 1", "().__class__", "conv2:1; import os", "tv.__class__", "match.__globals__(conv2)", "f'{1}'",
    "1 if 1 else 2",
)  # fmt: skip


@pytest.mark.parametrize("text", CODE)
def test_nothing_that_is_typed_runs(client, text, tmp_path):
    error(client.post("api/check", objective=text), 400)
    assert not (tmp_path / "hacked").exists()


FILES = (
    "match(conv2, '{}')", "guide(conv2, \"{}\")", "style(conv2, '{}')", "difference('{}')",
    "conv2:1 - 2*match(conv2, '{}')", "within(conv2:1, '{}')", "caricature(conv2, {})",
)  # fmt: skip


@pytest.mark.parametrize("form", FILES)
def test_nothing_that_is_typed_names_a_file(client, form, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "secret.png")
    text = form.format(tmp_path / "secret.png")
    assert error(client.post("api/check", objective=text), 400) == "an objective on this page cannot name a file"
    missing = form.format("/nowhere/else.png")
    assert error(client.post("api/check", objective=missing), 400) == "an objective on this page cannot name a file"


@pytest.mark.parametrize("call", ["dream", "explain", "blocks"])
def test_photographs_are_known_by_their_id_only(listening, call):
    more = {"layer": "conv2"} if call == "blocks" else {}
    for upload in ("/etc/passwd", "../uploads/x", None, 3, "0123456789abcdeF"):
        text = error(listening.post(f"api/{call}", page=listening.page, upload=upload, **more), 400)
        assert text.startswith("upload must be an id that this server gave, got ")
    unknown = listening.post(f"api/{call}", page=listening.page, upload="0123456789abcdef", **more)
    assert error(unknown, 404) == "there is no such photograph any more; drop it again"


# ------------------------------------------------------------------------------------------ photographs


def png(width, height, data=b""):
    """Return a PNG that says that it is large and holds little."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def encoded(kind, size=(40, 30), **options):
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"<svg onload='alert(1)'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run",
        b"\0" * 99,
    ],
    ids=["empty", "cut", "svg", "eps", "zeros"],
)
def test_what_is_no_image_is_refused(client, data):
    answer = client.http.post("api/uploads", content=data, headers={"content-type": "image/png"})
    assert error(answer, 400) in (
        "cannot read the image data as an image; give a PNG, JPEG or WebP file",
        "the image data is truncated; was it copied completely?",
    )


@pytest.mark.parametrize("size", [(8000, 8000), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (12_000, 8_000)])
def test_images_that_would_fill_the_memory_are_refused(client, size):
    text = error(client.http.post("api/uploads", content=png(*size)), 400)
    assert text.startswith("the image data is too large: ") or text.startswith("cannot read the image data")


def test_animations_are_refused(client):
    frames = [Image.new("RGB", (20, 20), (i, 0, 0)) for i in (0, 99, 200)]
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
    text = error(client.http.post("api/uploads", content=data.getvalue()), 400)
    assert text.startswith("the image data is animated (3 frames); give a still image")


def test_photographs_are_kept_as_decoded_images_of_bounded_size(client, plain_explorer):
    data = encoded("JPEG", (1500, 900), exif=b"Exif\0\0secret place", comment=b"<script>")
    found = client.http.post("api/uploads", content=data).json()
    assert max(found["width"], found["height"]) == MAX_SIDE
    stored = client.get(found["url"]).content
    assert stored.startswith(b"\x89PNG") and b"secret" not in stored and b"script" not in stored
    assert client.get(f"api/uploads/{found['id']}").json() == found
    assert (plain_explorer._services.store.path / "uploads" / f"{found['id']}.png").is_file()


def test_the_oldest_photographs_make_room(client, plain_explorer, monkeypatch):
    monkeypatch.setattr("featviz.apps.explore.uploads.MAX_UPLOADS", 2)
    sent = [client.http.post("api/uploads", content=encoded("PNG", (20 + i, 20))).json()["id"] for i in range(4)]
    kept = {file.stem for file in (plain_explorer._services.store.path / "uploads").iterdir()}
    assert kept == set(sent[-2:])
    assert error(client.get(f"uploads/{sent[0]}.png"), 404) == "there is no such photograph any more; drop it again"


# ------------------------------------------------------------------------------------------ too much


def test_the_queue_is_bounded(plain_explorer, listening):
    for seed in range(0, MAX_JOBS + 257, 256):
        answer = listening.post(
            "api/images",
            page=listening.page,
            wanted=[{"objective": "conv2:1", "size": 32, "steps": 2000, "seed": seed + i} for i in range(256)],
        )
        if answer.status_code != 200:
            break
    assert error(answer, 429) == "too many images are waiting; wait a moment, or cancel some"
    assert plain_explorer._services.worker.count <= MAX_JOBS + 64
    listening.post("api/cancel", page=listening.page, all=True)


def test_the_number_of_pages_is_bounded(plain_explorer, monkeypatch):
    monkeypatch.setattr("featviz.apps.explore.events.MAX_PAGES", 1)
    one, two = Client(plain_explorer.url, "one"), Client(plain_explorer.url, "two")
    with one.listening():
        assert error(two.get("api/events", page="two"), 429) == "too many pages are open; close one"
    one.close(), two.close()


def test_wrong_ids_are_refused_when_work_is_cancelled(client):
    for body in ({"ids": "x"}, {"ids": [3]}, {"ids": ["../x"]}, {}):
        error(client.post("api/cancel", page="page-1", **body), 400)


def test_units_and_completions_are_checked(client):
    for query in (
        {"layer": "conv2"},
        {"layer": "conv2", "channel": "x"},
        {"layer": "conv2", "channel": "-1"},
        {"layer": "conv2", "channel": "9" * 30},
        {"layer": "conv2", "channel": "\u0661"},
    ):
        assert error(client.get("api/unit", **query), 400).startswith("channel must be a whole number in 0…")
    assert error(client.get("api/unit", layer="../x", channel=0), 404).startswith("no layer '../x' in Plain")
    assert error(client.get("api/unit", layer="conv2", channel=8), 404) == "conv2 has channels 0…7, got 8"
    assert error(client.get("api/complete", text="a", at=2), 400) == "at must be a whole number in 0…1"
    assert error(client.get("api/complete", text="a" * 1001), 400) == "text must have at most 1000 characters, got 1001"
