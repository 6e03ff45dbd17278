"""Write the pictures that documents show: `make screenshots`. With `--all FOLDER`, pictures of every page."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby, product
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page

import parts
from browser.chromium import NARROW, SCHEMES, WIDE, open_context, running_chromium
from browser.pages import NAVIGATION, PAGES, VIEWER_PAGES, PageCase, Visitor
from browser.running import running_dashboard
from browser.seed import SETTINGS, Seed, seed_customer

DOCUMENTS = parts.ROOT / "docs" / "images"
SIZES = {"wide": WIDE, "narrow": NARROW}
CASES = {case.name: case for case in (*PAGES, *VIEWER_PAGES)}
_WIDE = ("overview", "paused-webhook", "deliveries", "delivery", "dead-letters", "replay", "operator")
_NARROW = ("overview", "deliveries")

Scheme = Literal["light", "dark"]
Picture = tuple[PageCase, str, Scheme]

IN_DOCUMENTS: list[Picture] = [
    *((CASES[name], "wide", "light") for name in _WIDE),
    *((CASES[name], "narrow", "dark") for name in _NARROW),
]
EVERY: list[Picture] = list(product(CASES.values(), SIZES, SCHEMES))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="page", help="only these pages")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="every page in every size and colours, into FOLDER")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(CASES):
        parser.error(f"no page has the name {min(unknown)}: the names are {', '.join(CASES)}")
    executable = parts.chromium()
    if executable is None:
        print("no Chromium here; `python3 tests/parts.py` brings it")
        return 1
    folder: Path = given.all or DOCUMENTS
    wanted = [one for one in (EVERY if given.all else IN_DOCUMENTS) if not given.names or one[0].name in given.names]
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scorm-webhooks-screenshots-")))
        dashboard = stack.enter_context(running_dashboard(home, SETTINGS))
        browser = stack.enter_context(running_chromium(executable))
        seed = seed_customer(dashboard, browser)
        pictures = dict(take(browser, dashboard.url, seed, wanted, folder))
    note_navigation(folder / NAVIGATION, {path.name: shown for path, shown in pictures.items()})
    print(f"{len(pictures)} pictures in {folder}, {sum(path.stat().st_size for path in pictures) / 1e6:.1f} MB")
    return 0


def take(browser: Browser, url: str, seed: Seed, wanted: list[Picture], folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each picture with its navigation. Each person, size and colour scheme has one window."""
    for (who, size, scheme), cases in groupby(sorted(wanted, key=_window), key=_window):
        options = {"storage_state": seed.cookies[who], "color_scheme": scheme}
        with open_context(browser, url, SIZES[size], **options) as (context, problems):
            page = context.new_page()
            for case, _, _ in cases:
                page.goto(seed.path(case.path))
                path = folder / f"{case.name}-{size}-{scheme}.png"
                page.screenshot(path=path, scale="css", animations="disabled")
                assert problems == [], problems
                yield path, navigation_of(page)


def navigation_of(page: Page) -> str:
    """The names of the pages that the top of a page links to; on a telephone, those in its menu."""
    return ", ".join(page.locator("header.top nav").first.locator("a").all_text_contents())


def note_navigation(file: Path, taken: dict[str, str]) -> None:
    """Note what each picture shows: tests/dashboard/test_pictures.py compares it with the dashboard."""
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(before | taken, indent=2, sort_keys=True) + "\n")


def _window(picture: Picture) -> tuple[Visitor, str, Scheme]:
    case, size, scheme = picture
    return case.who, size, scheme


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
