"""The frame of all pages: the policy that names the scripts and styles that may run, and no others."""

import hashlib
from base64 import b64encode
from html.parser import HTMLParser

import pytest

import featviz as fv
from featviz.apps.diff.page import PageFacts
from featviz.apps.gallery.page import Page
from featviz.apps.gallery.search import Search
from featviz.apps.shared.pages.page import APPS, render_template
from featviz.apps.units.summary import Summary

VARIABLES = {
    "atlas/page.html": {"planes": []},
    "blocks/page.html": {},
    "circuits/page.html": {
        "page": {
            "unit": {"image": None, "title": "a"},
            "about": "b",
            "source": "c",
            "kernel": "3 x 3",
            "explained": "",
            "response": None,
            **dict.fromkeys(("paths", "readers", "lists", "groups", "family", "heads"), ()),
        }
    },
    "diff/page.html": {
        "facts": PageFacts(("a", "b"), 4, [], [], [], [], [], []),
        "shown": [],
        "groups": {},
        "search": None,
    },
    "embeddings/page.html": {"about": "2 names", "noun": "name"},
    "explain/attention.html": {"about": "a", "target": "b", "on_grid": True, "matrices": [("mean-0", "AAAA")]},
    "explain/explain.html": {"about": "a"},
    "explain/text.html": {"strips": [], "levels": {1: "0.5"}, "positive": "1, 2, 3", "negative": "4, 5, 6"},
    "gallery/page.html": {"page": Page("a", "b", []), "search": Search(["a.png"], 1, "AAAA"), "searched": "{}"},
    "texture/page.html": {"about": "a"},
    "units/page.html": {
        "about": "a",
        "groups": [],
        "known": Summary((), None, None, None),
        "names": [],
        "source": "",
        "judge": "b",
        "bars": {"heights": [("0.5", "0.2")], "low": "0", "high": "1", "label": None},
        "facets": "",
    },
}
TEMPLATES = sorted(str(file.relative_to(APPS)) for file in APPS.glob("*/*.html"))


class Inline(HTMLParser):
    """Collects the policy of a page, its inline scripts and styles, and attributes that no hash can allow."""

    def __init__(self, page):
        super().__init__()
        self.policies, self.texts, self.unhashed, self.order = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.order.append(tag)
        self.unhashed += [name for name in given if name == "style" or name.startswith("on") or name == "srcdoc"]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(given["content"])
            assert not {"script", "style", "link"} & set(self.order)  # it applies to what follows
        if tag in ("script", "style") and given.get("type") != "application/json":
            assert "src" not in given
            self.texts.append((tag, ""))

    def handle_data(self, data):
        if self.lasttag in ("script", "style") and self.texts and not self.texts[-1][1]:
            self.texts[-1] = (self.lasttag, data)


def test_every_template_is_tested():
    assert sorted(VARIABLES) == TEMPLATES


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_policy_allows_each_inline_script_and_style_by_its_hash(template):
    found = Inline(render_template(template, {"a": "<b> \u2028"}, title="a<script>b", **VARIABLES[template]))
    (policy,) = found.policies
    rules = {name: values for name, *values in (rule.split() for rule in policy.split("; "))}
    assert rules["default-src"] == ["'none'"] and "unsafe" not in policy and "*" not in policy
    assert found.unhashed == [] and {tag for tag, _ in found.texts} == {"script", "style"}
    for tag in ("script", "style"):
        texts = [text for of_tag, text in found.texts if of_tag == tag]
        assert rules[f"{tag}-src"] == [
            f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts
        ]


def test_a_page_escapes_names_and_its_data_cannot_close_the_script():
    bad = "</script><script>alert(1)</script>"
    page = render_template("blocks/page.html", {"name": bad}, title=f"{bad} & more")
    assert "<script>alert" not in page
    assert "<title>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; &amp; more</title>" in page
    assert r'{"name": "\u003c/script>\u003cscript>alert(1)\u003c/script>"}' in page
    assert f"featviz {fv.__version__}" in page
