"""Embeddings: files of word vectors, expressions, neighbours, analogies, photographs, maps and the command."""

import gzip
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from motifs.draw import draw
from PIL import Image
from torch import nn

import featviz as fv
from featviz.apps.embeddings.expression import parse_expression
from featviz.apps.embeddings.neighbours import Neighbours, neighbour_lists
from featviz.apps.embeddings.vector_file import read_vectors
from featviz.apps.shared.activations.embedding import last_layer
from featviz.cli import main
from featviz.network.bundled import MOTIFS

PER_CLASS = 4


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """A folder of drawings in one subfolder per motif, and a file that is no image."""
    folder = tmp_path_factory.mktemp("drawings")
    labels = torch.arange(PER_CLASS * len(MOTIFS)) % len(MOTIFS)
    for i, image in enumerate(draw(labels, (64, 64), torch.Generator().manual_seed(5))):
        file = folder / MOTIFS[labels[i]] / f"{i:03d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(file)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def of_drawings(motifnet, drawings):
    return fv.embeddings(motifnet, photographs=drawings)


@pytest.fixture
def royal():
    """Words whose vectors are sums of independent meanings, so that every analogy is known."""
    basis = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0)))[0]
    royal, male, female, plural, animal = basis[:5]
    words = {
        "man": male, "woman": female, "king": royal + male, "queen": royal + female, "men": male + plural,
        "women": female + plural, "kings": royal + male + plural, "queens": royal + female + plural,
        "bull": animal + male, "cow": animal + female, "t-shirt": basis[5], "rock - roll": basis[6],
    }  # fmt: skip
    return fv.embeddings((list(words), torch.stack(list(words.values()))))


# --------------------------------------------------------------------------------------------- files

NORMAL = b"a 1 2\nb 3 -4.5e-1\n"
SAME = {
    "plain": NORMAL,
    "no line end": NORMAL.strip(),
    "header": b"2 2\n" + NORMAL,
    "header with a wrong count": b"999999999 2\n" + NORMAL,
    "trailing spaces": b"a 1 2 \nb 3 -4.5e-1 \n",
    "crlf": NORMAL.replace(b"\n", b"\r\n"),
    "header and crlf": b"2 2\r\n" + NORMAL.replace(b"\n", b"\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + NORMAL,
    "tabs": NORMAL.replace(b" ", b"\t"),
    "two spaces": NORMAL.replace(b" ", b"  "),
    "empty lines": b"a 1 2\n\nb 3 -.45\n\n\n",
    "a word again": b"a 1 2\na 7 7\nb 3 -0.45\nb 1 1\n",
    "gzip": gzip.compress(NORMAL, mtime=0),
}


@pytest.mark.parametrize("kind", SAME)
def test_files_that_mean_the_same_are_read_alike(kind, tmp_path):
    (tmp_path / "v.txt").write_bytes(SAME[kind])
    words, vectors = read_vectors(tmp_path / "v.txt")
    assert words == ["a", "b"] and vectors.dtype == np.float32
    assert vectors.tolist() == [[1, 2], [3, np.float32(-0.45)]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"at name@domain.com 1 2\n. . . 3 4\nb 5 6\n", ["at name@domain.com", ". . .", "b"]),
        (b"1990 1 2\n7 3 4\n", ["1990", "7"]),
        (b"5 7\n6 8\n", ["5", "6"]),  # words that are numbers with vectors of one number, not a header
        (b"1 1\na 3\n", ["a"]),
        (b"\xff 1 2\nb 3 4", ["\\xff", "b"]),
        ("na\u00efve 1 2\nto\u00a0do 1 2".encode(), ["na\u00efve", "to\u00a0do"]),
    ],
)
def test_words_of_any_kind(content, words, tmp_path):
    (tmp_path / "v.txt").write_bytes(content)
    assert read_vectors(tmp_path / "v.txt")[0] == words


BROKEN = {
    b"": "no word vectors in v.txt; each line must hold a word and its numbers",
    b"\n \n": "no word vectors in v.txt; each line must hold a word and its numbers",
    b"2 2\n": "no word vectors in v.txt; each line must hold a word and its numbers",
    b"a 1 2\nb 3 nan\n": "line 2 of v.txt must be a word and 2 finite numbers, got 'b 3 nan'",
    b"a 1 2\nb 3 1e39\n": "line 2 of v.txt must be a word and 2 finite numbers, got 'b 3 1e39'",
    b"2 2\na 1 2\nb 3\n": "line 3 of v.txt must be a word and 2 finite numbers, got 'b 3'",
    b"a 1 2\nb 3 4\nc 5\n": "line 3 of v.txt must be a word and 2 finite numbers, got 'c 5'",
    b"a 1 2\nb 3 x\n": "line 2 of v.txt must be a word and 2 finite numbers, got 'b 3 x'",
    b"2 999999999999\na 1 2\n": "line 2 of v.txt must be a word and 999999999999 finite numbers, got 'a 1 2'",
    b"hello\n": "line 1 of v.txt must be a word and 1 finite number, got 'hello'",
    b"2 2\na \0\1\2\3": "v.txt is binary, and only the text format of word vectors is read; save the vectors as text "
    "(of word2vec: with -binary 0)",
    gzip.compress(NORMAL, mtime=0)[:-9]: "v.txt is compressed and damaged; was it copied completely?",
    b"\x1f\x8b": "v.txt is compressed and damaged; was it copied completely?",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_wrong_file_is_named_with_the_line(content, tmp_path):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(fv.OutputError) as caught:
        fv.embeddings("v.txt")
    assert str(caught.value) == BROKEN[content]


def test_missing_files_and_folders(tmp_path):
    for name, message in (
        ("none.txt", "no file none.txt; check the path"),
        (str(tmp_path), f"{tmp_path} is a folder; give a file of vectors"),
    ):
        with pytest.raises(fv.OutputError, match=f"^{re.escape(message)}$"):
            fv.embeddings(name)
    with pytest.raises(fv.OutputError, match="^cannot read a"):
        fv.embeddings("a" * 5000)


def test_chunks_do_not_matter(tmp_path, monkeypatch):
    numbers = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    lines = [
        f"w{i % 250}{' x' * (i % 50 == 7)} {' '.join(map(repr, map(float, row)))}" for i, row in enumerate(numbers)
    ]
    (tmp_path / "v.txt").write_text("\n".join(lines))
    whole = read_vectors(tmp_path / "v.txt")
    assert whole[1].tolist() == numbers[[lines.index(line) for line in lines[:250]]].tolist()
    monkeypatch.setattr("featviz.apps.embeddings.vector_file.CHUNK_BYTES", 700)
    seen = []
    words, vectors = read_vectors(tmp_path / "v.txt", progress=lambda *done: seen.append(done))
    assert words == whole[0] and np.array_equal(vectors, whole[1])
    size = (tmp_path / "v.txt").stat().st_size
    assert len(seen) > 30 and seen[-1] == (size, size) and seen == sorted(seen)
    assert read_vectors(tmp_path / "v.txt", 17)[0] == words[:17]
    monkeypatch.setattr("featviz.apps.embeddings.vector_file.MAX_LINE_BYTES", 20)
    with pytest.raises(fv.OutputError, match=r"^a line of .*v\.txt has more than 20 bytes; is it a file of vectors\?$"):
        read_vectors(tmp_path / "v.txt")


def test_damaged_files_give_vectors_or_one_line(tmp_path):
    """Bytes are changed, removed and doubled at random."""
    draws, file = random.Random(0), tmp_path / "v.txt"
    refused = []
    rows = [f"w{i} " + " ".join(f"{draws.gauss(0, 1):.4f}" for _ in range(4)) for i in range(30)]
    for original in ("\n".join(rows).encode(), gzip.compress("\n".join(rows).encode())):
        for _ in range(150):
            data = bytearray(original)
            for _ in range(draws.randint(1, 4)):
                start = draws.randrange(len(data))
                end = start + draws.randint(0, 9)
                data[start:end] = draws.choice([b"", bytes(draws.randbytes(3)), data[start:end] * 2])
            file.write_bytes(data[: draws.choice([None, draws.randrange(1, len(data))])])
            try:
                words, vectors = read_vectors(file)
            except fv.OutputError as error:
                refused.append(str(error))
            else:
                assert len(words) == len(vectors) == len(set(words)) and np.isfinite(vectors).all()
    assert len(refused) > 100 and not any("\n" in message or len(message) > 300 for message in refused)


# --------------------------------------------------------------------------------------------- expressions


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("king", "+king"),
        ("king - man + woman", "+king -man +woman"),
        ("a.png - b.png", "+a.png -b.png"),
        ("- a + b", "-a +b"),
        ("+ a", "+a"),
        ("t-shirt + c++", "+t-shirt +c++"),
        ("'s + b", "+'s +b"),
        ("  a  -  b  ", "+a -b"),
        ("a \u2212 b", "+a -b"),
        ("'a' + \"b\"", "+a +b"),
        ('"a"b + c', '+"a"b +c'),
    ],
)
def test_expressions(text, terms):
    assert " ".join(f"{'+' if term.sign > 0 else '-'}{term.name}" for term in parse_expression(text)) == terms


def test_quotes_and_names_that_hold_signs(royal):
    assert [term.name for term in parse_expression('"a - b" + c')] == ["a - b", "c"]
    assert torch.equal(royal.vector("rock - roll"), royal.vectors[-1])
    assert torch.allclose(royal.vector("'rock - roll' - t-shirt"), royal.vectors[-1] - royal.vectors[-2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a name\n  \n  ^"),
        ("a -", "expected a name\n  a -\n     ^"),
        ("a - - b", "expected a name\n  a - - b\n      ^"),
        ("'a' b", "expected + or - between spaces\n  'a' b\n     ^"),
        ("'' + b", "expected a name between the quotes\n  '' + b\n  ^"),
    ],
)
def test_expressions_that_cannot_be_parsed(text, message, royal):
    with pytest.raises(fv.AddressError) as caught:
        royal.vector(text)
    assert str(caught.value) == f"cannot parse the expression: {message}"
    with pytest.raises(fv.AddressError, match="^an expression must have at most 10000 characters, got 40000$"):
        royal.vector("a + " * 10_000)


# --------------------------------------------------------------------------------------------- queries


def slow_nearest(names, vectors, query, left_out, count):
    """Return the nearest names by a loop in double precision."""
    query = [float(x) for x in query]
    found = []
    for name, row in zip(names, vectors.tolist(), strict=True):
        length = sum(x * x for x in row) ** 0.5 * sum(x * x for x in query) ** 0.5
        cosine = sum(x * y for x, y in zip(row, query, strict=True)) / length if length else 0.0
        if name not in left_out:
            found.append((-cosine, len(found), name))
    return [(name, -cosine) for cosine, _, name in sorted(found)[:count]]


@pytest.mark.parametrize("seed", range(8))
def test_nearest_is_what_a_loop_finds(seed, monkeypatch):
    monkeypatch.setattr("featviz.apps.embeddings.neighbours.CHUNK", 7)
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(40, 6, generator=generator)
    vectors[3], vectors[9] = 0, 2 * vectors[4]  # no direction, and the same direction
    names = [f"w{i}" for i in range(40)]
    some = fv.embeddings((names, vectors))
    for query, left_out in (("w4", {"w4"}), ("w1 - w2 + w9", {"w1", "w2", "w9"}), (torch.randn(6), set())):
        wanted = slow_nearest(names, vectors, some.vector(query), left_out, 12)
        found = some.nearest(query, 12)
        # w4 and w9 are as similar as each other, so rounding decides their order.
        order = {name: {"w4": "w9"}.get(name, name) for name in names}
        assert [order[name] for name in found.names] == [order[name] for name, _ in wanted]
        assert found.similarities == pytest.approx([value for _, value in wanted], abs=1e-6)
    rows, values = neighbour_lists(vectors, 5)
    wanted = slow_nearest(names, vectors, vectors[0], {"w0"}, 5)
    assert [names[row] for row in rows[0]] == [name for name, _ in wanted]
    assert values[0].tolist() == pytest.approx([value for _, value in wanted], abs=1e-6)


def test_analogies_of_known_meanings(royal):
    pairs = [("man", "woman"), ("king", "queen"), ("men", "women"), ("kings", "queens"), ("bull", "cow")]
    right = [royal.analogy(a, b, c, 1).names[0] == d for a, b in pairs for c, d in pairs if a != c]
    assert sum(right) >= 0.9 * len(right)
    assert royal.analogy("man", "king", "woman").names[0] == royal.nearest("king - man + woman").names[0] == "queen"
    assert not {"man", "king", "woman"} & set(royal.analogy("man", "king", "woman", 100).names)
    assert str(royal.analogy("man", "king", "woman", 1)) == "man : king = woman : …:\n  queen   0.959"


def test_analogies_follow_the_formula(royal):
    """3CosAdd on vectors of length 1: the cosine to b - a + c."""
    units = {name: row / row.norm() for name, row in zip(royal.names, royal.vectors, strict=True)}
    target = units["kings"] - units["man"] + units["cow"]
    wanted = slow_nearest(royal.names, royal.vectors, target, {"kings", "man", "cow"}, 3)
    found = royal.analogy("man", "kings", "cow", 3)
    assert list(found.names) == [name for name, _ in wanted]
    assert found.similarities == pytest.approx([value for _, value in wanted], abs=1e-6)


def test_bad_queries(royal):
    for call, message in (
        (lambda: royal.nearest("kng - man"), "no name 'kng' in given vectors; nearest: 'king', 'kings'"),
        (lambda: royal.analogy("man", "king", "womn"), "no name 'womn' in given vectors; nearest: 'women', 'woman', 'men'"),
        (lambda: royal.analogy("man", "king", 3), "an analogy takes three names, got 3"),
        (lambda: royal.nearest("king", 0), "count must be >= 1, got 0"),
        (lambda: royal.nearest("king", 1.5), "count must be a whole number, got 1.5"),
        (lambda: royal.nearest([1.0, 2.0]), "a query vector must have 12 finite numbers, got shape (2,)"),
        (lambda: royal.nearest([np.nan] * 12), "a query vector must have 12 finite numbers, got shape (12,)"),
        (lambda: royal.nearest(range(10**15)), "a query must be a name, an expression or a vector, got range(0, 1000000000000000)"),
        (lambda: royal.nearest(None), "a query must be a name, an expression or a vector, got None"),
        (lambda: royal.objective("king"), "only photographs can be rendered; these are vectors from given vectors"),
        (lambda: royal.map("map.png"), "cannot write map.png: end it in .html"),
        (lambda: royal.map("map.html", method="lda"), "method must be one of umap, pca, tsne, got 'lda'"),
        (lambda: royal.map("map.html", limit=10**9), "limit must be in [1, 20000], got 1000000000"),
        (lambda: royal.map("map.html", seed=-1), "seed must be in [0, 2**32), got -1"),
    ):  # fmt: skip
        with pytest.raises(fv.FeatvizError) as caught:
            call()
        assert str(caught.value) == message
    assert len(royal.nearest("king", 10**15)) == len(royal) - 1


def test_neighbours_print_names_that_are_no_text_safely():
    shown = str(Neighbours("a\x1b[2J", ("b\nc", "d" * 99), (0.5, -0.25)))
    assert "\x1b" not in shown and len(shown.splitlines()) == 3 and max(map(len, shown.splitlines())) < 80
    assert str(Neighbours("a", (), ())) == "a: no other names"
    assert list(Neighbours("a", ("b",), (0.5,))) == [("b", 0.5)]


def test_sources_that_are_given():
    repeated = fv.embeddings((["a", "b", "a"], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert repeated.names == ("a", "b") and repeated.vectors.tolist() == [[1, 2], [3, 4]]
    assert "a" in repeated and "c" not in repeated and not repeated.mean.any()
    assert repr(repeated) == "<embeddings of 2 names, 2 numbers each, from given vectors>"
    centered = fv.embeddings((["a", "b"], np.array([[1, 2], [3, 4]])), center=True)
    assert centered.vectors.tolist() == [[-1, -1], [1, 1]] and centered.mean.tolist() == [2, 3]
    assert fv.embeddings((["a", "b"], np.eye(2)), limit=1).names == ("a",)


WANTED = "source must be a file of vectors, a network, or a pair of names and vectors"


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        (3, {}, f"{WANTED}, got 3"),
        ((range(10**15), [[1.0]]), {}, f"{WANTED}; the names must be a sequence of text, got range(0, 1000000000000000)"),
        ((["a"], range(10**15)), {}, f"{WANTED}; the vectors must be an array of numbers, got range(0, 1000000000000000)"),
        ((["a"], [["x"]]), {}, f"{WANTED}; the vectors must be an array of numbers, got [['x']]"),
        ((["a"], [[1.0], [2.0]]), {}, f"{WANTED}; of 1 names the vectors must have shape (1, numbers), got (2, 1)"),
        (([], []), {}, f"{WANTED}; of 0 names the vectors must have shape (0, numbers), got (0,)"),
        ((["a", "b"], [[1.0], [np.inf]]), {}, "vectors must be finite; that of 'b' is not"),
        ((["a"], [[1.0]]), {"limit": 0}, "limit must be >= 1, got 0"),
        ((["a"], [[1.0]]), {"center": 1}, "center must be True, False or None, got 1"),
        ((["a"], [[1.0]]), {"layer": "x"}, "layer needs a network as source, with photographs=, a folder of images"),
        ("v.txt", {"photographs": "x"}, "photographs needs a network as source, with photographs=, a folder of images"),
    ],
)  # fmt: skip
def test_sources_that_cannot_be_right(source, more, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.embeddings(source, **more)
    assert str(caught.value) == message


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(ids).mean(1))


def test_the_embedding_matrix_of_a_network_that_reads_text(motifnet, drawings):
    module = Reader()
    vocabulary = ("[PAD]", "good", "bad", "good", "film")  # the matrix is padded to 8 rows
    reader = fv.Network(module, tokens=fv.TokenSpec(vocabulary, 6, pad=0, tokenizer=lambda text: [1]), name="reader")
    found = fv.embeddings(reader)
    assert found.names == ("[PAD]", "good", "bad", "film") and found.source == "the tokens of reader"
    assert torch.equal(found.vectors, module.embedding.weight.detach()[[0, 1, 2, 4]])
    assert fv.embeddings(reader, limit=2).names == ("[PAD]", "good")
    for call, message in (
        (
            lambda: fv.embeddings(motifnet),
            "motifnet has no embedding matrix; give photographs=, a folder of images, to embed these",
        ),
        (
            lambda: fv.embeddings(reader, photographs=drawings),
            "reader reads text; leave out photographs to embed its tokens",
        ),
    ):
        with pytest.raises(fv.SettingError) as caught:
            call()
        assert str(caught.value) == message


# --------------------------------------------------------------------------------------------- photographs


def motif(name):
    return name.split("/")[0]


def test_the_nearest_photographs_are_of_the_same_class(of_drawings):
    assert len(of_drawings) == PER_CLASS * len(MOTIFS) and list(of_drawings.skipped) == ["broken.png"]
    same = [motif(of_drawings.nearest(name, 1).names[0]) == motif(name) for name in of_drawings.names]
    assert sum(same) >= 0.9 * len(same)
    assert of_drawings.vectors.mean(0).abs().max() < 1e-5


@pytest.mark.parametrize("model", ["motifnet", "motifvit"])
def test_vectors_are_means_over_positions_or_class_tokens(model, drawings):
    network = fv.load(model, device="cpu")
    found = fv.embeddings(network, photographs=drawings, center=False)
    assert found.layer == {"motifnet": "stage3", "motifvit": "encoder"}[model]
    image = fv.apps.shared.activations.image_batches.read_photograph(found.files[5], size=network.size)
    output = network.capture(image[None], [found.layer])[found.layer][0]
    expected = output.mean((1, 2)) if model == "motifnet" else output[0]
    assert torch.allclose(found.vectors[5], expected, atol=1e-5)
    assert found.names[5] == found.files[5].relative_to(drawings).as_posix()


def test_default_layers(motifnet):
    assert last_layer(motifnet) == "stage3"
    dense = nn.Sequential(nn.Flatten(), nn.Linear(48, 7), nn.ReLU(), nn.Linear(7, 5))
    assert last_layer(fv.Network(dense, size=4, mean=(0.5,) * 3, std=(0.5,) * 3)) == "2"


def test_a_folder_is_read_once(motifnet, drawings, monkeypatch):
    first = fv.embeddings(motifnet, photographs=drawings, layer="stage2")
    monkeypatch.setattr("featviz.apps.embeddings.photographs._embed", None)
    again = fv.embeddings(motifnet, photographs=drawings, layer="stage2")
    assert again.names == first.names and torch.equal(again.vectors, first.vectors) and again.skipped == first.skipped


def test_photographs_by_path(of_drawings, drawings, tmp_path):
    name = of_drawings.names[0]
    inside = of_drawings.nearest(str(drawings / name))
    assert inside.names == of_drawings.nearest(name).names  # the same photograph is left out
    (tmp_path / "copy.png").write_bytes((drawings / name).read_bytes())
    outside = of_drawings.nearest("copy.png", 1)
    assert outside.names == (name,) and outside.similarities[0] == pytest.approx(1)
    assert torch.allclose(of_drawings.vector("copy.png"), of_drawings.vector(name), atol=1e-5)
    total = of_drawings.vector(f"copy.png - {of_drawings.names[9]}")
    assert torch.allclose(total, of_drawings.vector(f"{name} - {of_drawings.names[9]}"), atol=1e-5)
    with pytest.raises(
        fv.AddressError, match=r"^no photograph 'spirl/017\.png' in drawings\d*, stage3 of motifnet; near"
    ):
        of_drawings.nearest("spirl/017.png")
    with pytest.raises(fv.OutputError, match=r"^cannot read .*broken\.png as an image; give a PNG, JPEG or WebP file$"):
        of_drawings.vector(str(drawings / "broken.png"))


def test_a_rendered_photograph_is_of_its_class(of_drawings, motifnet):
    names = [name for name in of_drawings.names if motif(name) in ("spiral", "bricks", "moon", "zigzag", "leaf")]
    names = names[::PER_CLASS]
    rendering = fv.render(motifnet, [of_drawings.objective(name) for name in names], steps=48)
    labels = motifnet.capture(rendering.images, [""]).logits().argmax(1)
    assert [MOTIFS[label] for label in labels] == [motif(name) for name in names]


def test_objectives_of_sums(of_drawings):
    a, b = of_drawings.names[0], of_drawings.names[-1]
    found = of_drawings.objective(f"{a} - {b}", power=0)
    total = of_drawings.vector(f"{a} - {b}")
    assert (found.layer, found.power) == ("stage3", 0)
    assert torch.allclose(found.vector.tensor, total / total.norm(), atol=1e-6)
    with pytest.raises(fv.SettingError, match="^the vector is 0, which is no direction; give another query or more"):
        of_drawings.objective(f"{a} - {a}")
    with pytest.raises(fv.SettingError, match=r"^power must be >= 0, got -1 \(default 2\)$"):
        of_drawings.objective(a, power=-1)


def test_class_tokens_are_rendered_at_the_class_token(drawings):
    found = fv.embeddings(fv.load("motifvit", device="cpu"), photographs=drawings).objective(
        "moon/023.png - eye/021.png"
    )
    assert type(found) is fv.objectives.DirectionNeuron and found.at == "cls"


def test_a_network_that_puts_out_nan_is_named(drawings):
    broken = toys.plain()
    with torch.no_grad():
        broken.module.conv1.weight.fill_(float("nan"))
    with pytest.raises(fv.ModelError, match="^layer 'conv1' of Plain outputs NaN or infinite numbers for these photog"):
        fv.embeddings(broken, photographs=drawings, layer="conv1")


# --------------------------------------------------------------------------------------------- maps and the command


def data_of(page):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_a_map_of_words_holds_names_neighbours_and_no_markup(royal, tmp_path):
    wild = fv.embeddings((["<script>alert(1)</script>", *royal.names[1:]], royal.vectors))
    assert wild.map("map.html", method="pca").name == "map.html"
    page = (tmp_path / "map.html").read_text()
    data = data_of(page)
    assert data["names"] == list(wild.names) and "<script>alert" not in page and "sheets" not in data
    for row, name in enumerate(wild.names):
        if row:
            found = dict(wild.nearest(name, 11))
            listed = {
                data["names"][i]: value / 1000 for i, value in zip(data["near"][row], data["similar"][row], strict=True)
            }
            assert listed == pytest.approx(found, abs=6e-4)
            assert data["similar"][row] == sorted(data["similar"][row], reverse=True)
    assert min(data["x"] + data["y"]) >= 0 and max(data["x"] + data["y"]) <= 10_000
    assert "12 names, laid out by PCA" in page and [file.name for file in tmp_path.iterdir()] == ["map.html"]
    wild.map("map.html", method="pca", limit=5)
    assert data_of((tmp_path / "map.html").read_text())["names"] == list(wild.names[:5])
    assert "5 of 12 names" in (tmp_path / "map.html").read_text()


def test_a_map_of_photographs_holds_small_copies(of_drawings, tmp_path):
    seen = []
    of_drawings.map("map.html", method="pca", progress=lambda *done: seen.append(done))
    data = data_of((tmp_path / "map.html").read_text())
    assert seen[-1] == (108, 108) and (data["side"], data["columns"], len(data["sheets"])) == (128, 8, 2)
    assert all(sheet.startswith("data:image/webp;base64,") for sheet in data["sheets"])
    of_drawings.map("map.html", method="pca", limit=10)
    names = data_of((tmp_path / "map.html").read_text())["names"]
    assert names == [of_drawings.names[i * 108 // 10] for i in range(10)]  # spread over the folder
    assert (tmp_path / "map.html").stat().st_size < 300_000


@pytest.mark.parametrize("count", [1, 2, 3])
def test_maps_of_few_names(count, tmp_path):
    fv.embeddings(([f"w{i}" for i in range(count)], np.eye(3)[:count])).map("map.html", method="pca")
    data = data_of((tmp_path / "map.html").read_text())
    assert [len(near) for near in data["near"]] == [count - 1] * count


def test_the_command(drawings, tmp_path, capsys):
    (tmp_path / "glove.txt").write_text("king 1 1 0\nman 1 0 0\nwoman 0 0 1\nqueen 0 1 1\n")
    assert main(["embeddings", "glove.txt", "king - man + woman", "king", "--count", "1", "-o", "m.html", "--method", "pca", "--quiet"]) == 0  # fmt: skip
    assert capsys.readouterr().out == "king - man + woman:\n  queen   0.959\nking:\n  man   0.707\nm.html\n"
    line = ["embeddings", str(drawings), "spiral/017.png", "--count", "1", "--steps", "2", "--quiet"]
    assert main([*line, "--render", "r.png"]) == 0
    out = capsys.readouterr()
    assert re.fullmatch(r"spiral/017\.png:\n  spiral/\d+\.png   0\.\d+\nr\.png\n", out.out)
    assert out.err.startswith("featviz: skipped broken.png: cannot read ")
    assert fv.Recipe.of(tmp_path / "r.png").objectives[0].startswith("Direction(layer='stage3', ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is nothing to do; give a name to look up, or -o map.html"),
        (["v.txt"], "there is nothing to do; give a name to look up, or -o map.html"),
        (["nothing"], "no file or folder nothing; give a text file of word vectors, a folder of images, or a --model that reads text"),
        (["v.txt", "a", "--layer", "stage2"], "v.txt is no folder, and --layer and --model need a folder of images"),
        (["v.txt", "a", "--model", "motifvit"], "v.txt is no folder, and --layer and --model need a folder of images"),
        (["v.txt", "a", "--render", "a.png"], "--render needs a folder of images and a query, such as a.png"),
        (["v.txt", "-o", "a.png"], "cannot write a.png: end it in .html"),
        (["v.txt", "A - c"], "no name 'A' in v.txt; nearest: 'a'"),
        (["v.txt", "a", "--limit", "0"], "limit must be >= 1, got 0"),
        ([".", "a"], "no images in .; it needs files that end in .png, .jpg, .jpeg, .webp, .bmp, .tif, .tiff, .npy"),
    ],
)  # fmt: skip
def test_wrong_command_lines(words, message, tmp_path, capsys):
    (tmp_path / "v.txt").write_text("a 1 2\nb 3 4\n")
    assert main(["embeddings", *words, "--quiet"]) == 2
    assert capsys.readouterr().err == f"featviz: {message}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["v.txt"]


def test_the_guide_prints_what_it_shows(capsys):
    guide = (Path(__file__).parents[2] / "docs" / "embeddings.md").read_text()
    code, shown = (re.search(rf"```{kind}\n(.*?)```", guide, re.DOTALL)[1] for kind in ("python", "text"))
    exec(code, {})
    assert capsys.readouterr().out == shown


def test_importing_loads_no_layout_library():
    code = "import sys, featviz as fv; fv.embeddings; print({'umap', 'sklearn', 'zennit', 'captum'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1.0, 1e20])
def test_similarities_do_not_depend_on_the_scale(scale):
    rows = torch.tensor([[1.0, 0], [1, 0.1], [0, 0]], dtype=torch.float64) * scale
    found = fv.embeddings((list("abc"), rows.float()), center=False).nearest("a", 2)
    assert found.names == ("b", "c")
    assert found.similarities == pytest.approx((1 / math.sqrt(1.01), 0.0), abs=1e-6)


def test_a_limit_reads_no_further_lines(tmp_path):
    (tmp_path / "v.txt").write_text("a 1 2 3\nb 4 5 6\nc 1 2\n")
    assert fv.embeddings(tmp_path / "v.txt", limit=1).names == ("a",)
    (tmp_path / "v.txt").write_text("a 1 2 3\na 4 5 6\nb 4 5 6\nc 1 2\n")
    assert fv.embeddings(tmp_path / "v.txt", limit=2).names == ("a", "b")


def test_words_of_another_encoding_stay_different(tmp_path):
    (tmp_path / "v.txt").write_bytes(b"caf\xe9 1 2 3\ncaf\xe8 4 5 6\n")
    assert fv.embeddings(tmp_path / "v.txt").names == ("caf\\xe9", "caf\\xe8")


@pytest.mark.parametrize("query", ["a - a", "zero"])
def test_a_vector_without_direction_has_no_neighbours(query):
    words = fv.embeddings((["a", "b", "zero"], np.array([[1.0, 2.0], [2.0, 1.0], [0.0, 0.0]])))
    with pytest.raises(fv.SettingError, match="is 0, so its cosine is undefined"):
        words.nearest(query)
