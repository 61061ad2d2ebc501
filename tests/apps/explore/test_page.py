"""The files of the page: text never becomes markup, and nothing is loaded from elsewhere or left over."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import featviz.apps

STATIC = Path(featviz.apps.__file__).parent / "explore" / "static"
MODULES = sorted(STATIC.glob("*.js"))
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|createContextualFragment|DOMParser|srcdoc|document\.write"
    r"|\beval\b|\bnew Function\b|\bFunction\(|set(?:Timeout|Interval)\(\s*[\"'`]|javascript:|import\(|\.cssText"
)
"""What parses text as markup, as a script or as a style."""
ELSEWHERE = re.compile(r"https?://(?!www\.w3\.org/2000/svg)|[\"'(]//")
MOST_LINES = 300


class Elements(HTMLParser):
    """All elements of a page, and the text inside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inline = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)


def elements():
    return Elements((STATIC / "index.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES, ids=lambda file: file.name)
def test_no_module_parses_text_as_markup_or_code(module):
    assert FORBIDDEN.findall(module.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "node.innerHTML = name", "eval(text)", "new Function(text)", "node.insertAdjacentHTML('x', y)",
        "setTimeout('run()', 5)", "import(name)", "document.write(x)", "frame.srcdoc = x", "node.style.cssText = x",
    ],
)  # fmt: skip
def test_the_check_finds_each_way_to_parse_text(line):
    assert FORBIDDEN.search(line)


@pytest.mark.parametrize("file", sorted(STATIC.iterdir()), ids=lambda file: file.name)
def test_nothing_is_loaded_from_elsewhere(file):
    assert ELSEWHERE.findall(file.read_text(encoding="utf-8")) == []
    assert ELSEWHERE.search('import "https://example.com/x.js"') and ELSEWHERE.search('url("//example.com/x")')


@pytest.mark.parametrize("file", sorted(STATIC.iterdir()), ids=lambda file: file.name)
def test_files_are_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_policy_of_the_server_allows_the_whole_page():
    """No script or style inside of the page, no handler or style in an attribute."""
    page = elements()
    assert page.inline == []
    for tag, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        if tag == "script":
            assert attributes["type"] == "module" and attributes["src"].startswith("./static/")


def test_every_file_is_used_and_every_used_file_is_there():
    page = elements()
    used = {"index.html"}
    for _, attributes in page.found:
        link = attributes.get("src") or attributes.get("href") or ""
        if link.startswith("./static/"):
            used.add(link.removeprefix("./static/"))
    waiting = [name for name in used if name.endswith(".js")]
    while waiting:
        text = (STATIC / waiting.pop()).read_text(encoding="utf-8")
        for name in re.findall(r'^import .*? from "\./([^"]+)";$', text, re.MULTILINE):
            if name not in used:
                used.add(name)
                waiting.append(name)
    assert used == {file.name for file in STATIC.iterdir()}


def test_every_imported_name_is_exported():
    for module in MODULES:
        for names, source in re.findall(r'^import \{(.*?)\} from "\./([^"]+)";$', module.read_text(), re.MULTILINE):
            exported = set(
                re.findall(r"^export (?:async )?(?:const|function|class) (\w+)", (STATIC / source).read_text(), re.M)
            )
            wanted = {name.strip() for name in names.split(",")}
            assert wanted <= exported, (module.name, source)
            text = module.read_text()
            for name in wanted:
                assert len(re.findall(rf"\b{name}\b", text)) > 1, (module.name, name)


def test_every_element_that_a_module_names_is_in_the_page():
    ids = [attributes["id"] for _, attributes in elements().found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for module in MODULES:
        named = set(re.findall(r'\bat\("([^"]+)"\)', module.read_text(encoding="utf-8")))
        assert named <= set(ids), module.name


def test_controls_have_names():
    page = elements()
    labelled = {attributes["for"] for tag, attributes in page.found if tag == "label"}
    for tag, attributes in page.found:
        if tag in ("input", "select", "textarea"):
            assert attributes["id"] in labelled or "aria-label" in attributes, attributes
        for reference in ("aria-labelledby", "aria-controls", "for"):
            if reference in attributes:
                assert attributes[reference] in {given.get("id") for _, given in page.found}, attributes
