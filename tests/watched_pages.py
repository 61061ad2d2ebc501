"""Browser pages on which any message, error, or request elsewhere fails the test."""

import contextlib
import re


@contextlib.contextmanager
def watched_page(browser, origin="file://", *, width=1440, height=900, expected=None, **options):
    """Open an empty page in a context of its own; after the test, nothing may be wrong with it.

    Args:
        browser: The browser.
        origin: Beginning of the addresses that the page may request, apart from data in the page.
        width: Width of the window in px.
        height: Height of the window in px.
        expected: Pattern of console messages and reasons of failed requests that are no fault, with their address in
            parentheses; none by default.
        **options: Other options of the context.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page, wrong = context.new_page(), []

    def check(text, url):
        if not expected or not re.match(expected, f"{text} ({url})"):
            wrong.append(f"{text} ({url})")

    page.on("console", lambda message: check(message.text, message.location["url"]))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda sent: sent.url.startswith((origin, "data:", "blob:")) or wrong.append(sent.url))
    page.on("requestfailed", lambda sent: sent.failure == "net::ERR_ABORTED" or check(sent.failure, sent.url))
    try:
        yield page
        assert not wrong, wrong
    finally:
        context.close()
