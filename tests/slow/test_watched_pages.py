"""The helper that watches pages fails for each kind of fault."""

import pytest
from watched_pages import watched_page

pytestmark = pytest.mark.slow
FAULTS = {
    "message": ("console.log('a message')", r"'a message \("),
    "error": ("throw Error('an error')", "'an error'"),
    "elsewhere": ("fetch('http://127.0.0.1:9/')", r"'http://127\.0\.0\.1:9/'"),
    "missing": ("new Image().src = 'gone.png'", r"'net::ERR_FILE_NOT_FOUND \("),
}
"""Script of a page, and what the helper reports of it, by the kind of fault."""


@pytest.fixture
def visit(browser, tmp_path):
    def visit(script, **options):
        file = tmp_path / "page.html"
        file.write_text(f"<title>page</title><script>{script}</script>")
        with watched_page(browser, **options) as page:
            page.goto(file.as_uri())
            page.wait_for_timeout(300)

    return visit


@pytest.mark.parametrize(("script", "reported"), FAULTS.values(), ids=FAULTS)
def test_faults_of_a_page_are_found(visit, script, reported):
    with pytest.raises(AssertionError, match=reported):
        visit(script)


def test_a_page_without_faults_and_expected_messages_pass(visit):
    visit("document.title = 'another'")
    visit(FAULTS["message"][0], expected="a message")
