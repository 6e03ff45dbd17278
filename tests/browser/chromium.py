"""Chromium, and a page that notes everything that is wrong with it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE, NARROW = (1440, 900), (360, 740)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# A busy machine is slow for a moment.
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)

# The console also reports the status of a page that is meant to be an error page.
_STATUS_OF_A_PAGE = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")


@contextmanager
def running_chromium(executable: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_context(
    browser: Browser, url: str, size: tuple[int, int] = WIDE, **options: Any
) -> Iterator[tuple[BrowserContext, list[str]]]:
    """A browser of its own: cookies, and a list of what went wrong on any of its pages."""
    context = browser.new_context(viewport=viewport(size), base_url=url, **options)
    context.set_default_timeout(PATIENCE_MS)
    problems: list[str] = []
    watch(context, url, problems)
    try:
        yield context, problems
    finally:
        context.close()


def viewport(size: tuple[int, int]) -> Any:
    return {"width": size[0], "height": size[1]}


def watch(context: BrowserContext, url: str, problems: list[str]) -> None:
    """Note console errors (a violation of the CSP is one), exceptions, server errors, and requests to other hosts."""
    own = urlsplit(url).netloc

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _STATUS_OF_A_PAGE.match(message.text):
            problems.append(f"console: {message.text}")

    def on_host(address: str) -> bool:
        parts = urlsplit(address)
        return parts.scheme == "data" or parts.netloc == own

    context.on("console", console)
    context.on("weberror", lambda error: problems.append(f"exception: {error.error}"))
    context.on("request", lambda sent: None if on_host(sent.url) else problems.append(f"request to {sent.url}"))
    context.on("response", lambda got: problems.append(f"{got.status} from {got.url}") if got.status >= 500 else None)


def sign_in(context: BrowserContext, link: str) -> Page:
    """Use a one-time link."""
    page = context.new_page()
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    return page
