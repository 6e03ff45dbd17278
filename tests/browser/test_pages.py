"""What holds for every page, of an account as customers have it and of one whose texts are hostile."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.checks import axe_violations, focus_problems, text_of_main, too_wide
from browser.chromium import NARROW, open_context, viewport
from browser.hostile import EVENT_ID
from browser.pages import PAGES, PageCase
from browser.running import Dashboard
from browser.seed import Seed

every_page = pytest.mark.parametrize("case", PAGES, ids=lambda case: case.name)


@contextmanager
def opened(browser: Browser, dashboard: Dashboard, seed: Seed, case: PageCase) -> Iterator[Page]:
    """The page, as an owner of the account sees it; nothing may be wrong with it."""
    cookies = None if case.is_public else seed.cookies
    with open_context(browser, dashboard.url, storage_state=cookies) as (context, problems):
        page = context.new_page()
        page.goto(seed.path(case.path))
        yield page
        assert problems == []


@every_page
def test_a_page_is_accessible(chromium: Browser, dashboard: Dashboard, seed: Seed, case: PageCase, axe: str) -> None:
    with opened(chromium, dashboard, seed, case) as page:
        assert axe_violations(page, axe) == []


@every_page
def test_a_page_fits_a_narrow_screen(chromium: Browser, dashboard: Dashboard, seed: Seed, case: PageCase) -> None:
    with opened(chromium, dashboard, seed, case) as page:
        page.set_viewport_size(viewport(NARROW))
        assert too_wide(page) == []


@every_page
def test_back_and_reload_give_the_same_page(
    chromium: Browser, dashboard: Dashboard, seed: Seed, case: PageCase
) -> None:
    with opened(chromium, dashboard, seed, case) as page:
        address, text = page.url, text_of_main(page)
        page.reload()
        assert (page.url, text_of_main(page)) == (address, text)
        page.goto("/sign-in/another-token")
        page.go_back()
        assert (page.url, text_of_main(page)) == (address, text)


@every_page
def test_tab_reaches_everything_and_shows_it(
    chromium: Browser, dashboard: Dashboard, seed: Seed, case: PageCase
) -> None:
    with opened(chromium, dashboard, seed, case) as page:
        assert focus_problems(page) == []


@every_page
def test_hostile_text_is_text_and_fits(chromium: Browser, dashboard: Dashboard, hostile: Seed, case: PageCase) -> None:
    with opened(chromium, dashboard, hostile, case) as page:
        expect(page.locator("[data-hostile]")).to_have_count(0)
        assert not set("\u202e\x07") & set(page.locator("body").inner_text())
        page.set_viewport_size(viewport(NARROW))
        assert too_wide(page) == []


def test_the_longest_event_id_finds_its_delivery(chromium: Browser, dashboard: Dashboard, hostile: Seed) -> None:
    with opened(chromium, dashboard, hostile, PageCase("deliveries", "/deliveries")) as page:
        page.get_by_label("Event").fill(EVENT_ID)
        page.get_by_role("button", name="Filter").click()
        expect(page.get_by_role("row")).to_have_count(2)
