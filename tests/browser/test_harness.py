"""The harness notes what it is there for, and a page does nothing else."""

import pytest
from playwright.sync_api import Browser, Route

from browser.chromium import open_context

pytestmark = pytest.mark.e2e

# An address where nothing listens: the test answers for it.
URL = "http://127.0.0.1:9"
POLICY = {"Content-Type": "text/html", "Content-Security-Policy": "default-src 'none'; img-src *; script-src 'self'"}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<script>1</script>", "Content Security Policy"),
        ("<p style='color: red'>red</p>", "Content Security Policy"),
        ("<img src='http://127.0.0.1:9/broken' alt=''>", "500 from"),
        ("<img src='http://elsewhere.example/1' alt=''>", "request to http://elsewhere.example/1"),
        ("<script src='/throws'></script>", "exception: "),
    ],
)
def test_what_is_wrong_with_a_page_is_noted(chromium: Browser, body: str, problem: str) -> None:
    with open_context(chromium, URL) as (context, problems):
        context.route("**/*", lambda route: respond(route, body))
        context.new_page().goto("/", wait_until="networkidle")
        assert [one for one in problems if problem in one], problems


def test_an_error_page_alone_is_no_problem(chromium: Browser) -> None:
    with open_context(chromium, URL) as (context, problems):
        context.route("**/*", lambda route: route.fulfill(status=422, headers=POLICY, body="<p>wrong</p>"))
        context.new_page().goto("/", wait_until="networkidle")
        assert problems == []


def respond(route: Route, body: str) -> None:
    if route.request.url == f"{URL}/":
        route.fulfill(headers=POLICY, body=f"<!doctype html>{body}")
    elif route.request.url == f"{URL}/throws":
        route.fulfill(headers={"Content-Type": "text/javascript"}, body="throw new Error('thrown')")
    else:
        route.fulfill(status=500)
