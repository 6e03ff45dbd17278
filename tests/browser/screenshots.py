"""Write pictures of every page, light and dark, wide and narrow: `make screenshots`."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser

import parts
from browser.chromium import NARROW, SCHEMES, WIDE, open_context, running_chromium
from browser.pages import PAGES, PageCase
from browser.running import running_dashboard
from browser.seed import SETTINGS, Seed, seed_customer

FOLDER = parts.ROOT / "docs" / "images"
SIZES = {"wide": WIDE, "narrow": NARROW}


def main(wanted: list[str]) -> int:
    """Pictures of all pages, or of those that are named."""
    executable = parts.chromium()
    if executable is None:
        print("no Chromium here; `python3 tests/parts.py` brings it")
        return 1
    cases = [case for case in PAGES if not wanted or case.name in wanted]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scorm-webhooks-screenshots-")))
        dashboard = stack.enter_context(running_dashboard(folder, SETTINGS))
        browser = stack.enter_context(running_chromium(executable))
        seed = seed_customer(dashboard, browser)
        pictures = [path for case in cases for path in take(browser, dashboard.url, seed, case)]
    size = sum(path.stat().st_size for path in pictures)
    print(f"{len(pictures)} pictures in {FOLDER.relative_to(parts.ROOT)}, {size / 1e6:.1f} MB")
    return 0


def take(browser: Browser, url: str, seed: Seed, case: PageCase) -> Iterator[Path]:
    """The pictures of one page."""
    for scheme, (name, size) in product(SCHEMES, SIZES.items()):
        cookies = None if case.is_public else seed.cookies
        with open_context(browser, url, size, storage_state=cookies, color_scheme=scheme) as (context, problems):
            page = context.new_page()
            page.goto(seed.path(case.path))
            path = FOLDER / f"{case.name}-{scheme}-{name}.png"
            page.screenshot(path=path, scale="css", animations="disabled")
            assert problems == [], problems
            yield path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
