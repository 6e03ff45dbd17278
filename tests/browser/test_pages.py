"""What holds for every page, of an account as customers have it and of one whose texts are untrusted."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.checks import axe_violations, cut_tables, focus_problems, header_lines, text_of_main, too_wide
from browser.chromium import NARROW, WIDE, open_context, viewport
from browser.pages import MAIN_PAGES, PAGES, VIEWER_PAGES, PageCase
from browser.running import Dashboard
from browser.seed import Seed
from browser.untrusted import EVENT_ID

pytestmark = pytest.mark.e2e

DESKTOPS = (1024, 1280, 1440)


def each(*cases: PageCase) -> pytest.MarkDecorator:
    """One test a page. A landing plays at most those of the main pages."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(case, id=case.name, marks=() if case.name in MAIN_PAGES else pytest.mark.night("slow"))
            for case in cases
        ],
    )


@dataclass
class Visitor:
    """One window for each person: a new one costs more than a test."""

    browser: Browser
    url: str
    stack: ExitStack
    windows: dict[str, tuple[Page, list[str]]] = field(default_factory=dict)

    @contextmanager
    def at(self, case: PageCase, seed: Seed) -> Iterator[Page]:
        """The page of a case. The test fails if anything went wrong on it."""
        who = f"{seed.customer.id} {case.who}"
        if who not in self.windows:
            opened = open_context(self.browser, self.url, storage_state=seed.cookies[case.who])
            context, problems = self.stack.enter_context(opened)
            self.windows[who] = context.new_page(), problems
        page, problems = self.windows[who]
        problems.clear()
        page.set_viewport_size(viewport(WIDE))
        page.emulate_media(color_scheme="light")
        page.goto(seed.path(case.path))
        yield page
        assert problems == []


@pytest.fixture(scope="module")
def visitor(chromium: Browser, dashboard: Dashboard) -> Iterator[Visitor]:
    with ExitStack() as stack:
        yield Visitor(chromium, dashboard.url, stack)


@each(*PAGES, *VIEWER_PAGES)
def test_a_page_is_accessible_and_fits_its_screen(visitor: Visitor, seed: Seed, case: PageCase, axe: str) -> None:
    with visitor.at(case, seed) as page:
        assert axe_violations(page, axe) == []
        page.set_viewport_size(viewport(NARROW))
        assert too_wide(page) == []
        assert header_lines(page) <= 2


@each(*PAGES)
def test_a_table_fits_a_desktop(visitor: Visitor, seed: Seed, case: PageCase) -> None:
    with visitor.at(case, seed) as page:
        for width in DESKTOPS:
            page.set_viewport_size(viewport((width, 900)))
            assert (width, [*cut_tables(page), *too_wide(page)]) == (width, [])


@each(*PAGES)
def test_back_and_reload_give_the_same_page(visitor: Visitor, seed: Seed, case: PageCase) -> None:
    with visitor.at(case, seed) as page:
        address, text = page.url, text_of_main(page)
        page.reload()
        assert (page.url, text_of_main(page)) == (address, text)
        page.goto("/sign-in/another-token")
        page.go_back()
        assert (page.url, text_of_main(page)) == (address, text)


@each(*PAGES)
def test_tab_reaches_everything_and_shows_it(visitor: Visitor, seed: Seed, case: PageCase) -> None:
    with visitor.at(case, seed) as page:
        assert focus_problems(page) == []


@each(*PAGES)
def test_untrusted_text_is_text_and_fits(visitor: Visitor, untrusted: Seed, case: PageCase) -> None:
    with visitor.at(case, untrusted) as page:
        page.set_viewport_size(viewport(NARROW))
        assert_harmless(page)


def assert_harmless(page: Page) -> None:
    """No markup of others, nothing that turns text around, nothing that breaks the layout."""
    expect(page.locator("[data-injected]")).to_have_count(0)
    assert not {"\u202e", "\x07"} & set(page.locator("body").inner_text())
    assert too_wide(page) == []
    assert header_lines(page) <= 2


def test_the_longest_event_id_finds_its_delivery(visitor: Visitor, untrusted: Seed) -> None:
    with visitor.at(PageCase("deliveries", "/deliveries"), untrusted) as page:
        page.get_by_label("Find an id").fill(EVENT_ID)
        page.get_by_role("button", name="Find").click()
        expect(page.get_by_role("row")).to_have_count(2)


def test_a_binary_response_is_text_and_fits(visitor: Visitor, untrusted: Seed) -> None:
    with visitor.at(PageCase("webhook", "/webhooks/{healthy}"), untrusted) as page:
        page.set_viewport_size(viewport(NARROW))
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("status").filter(has_text=r"\x01\x02\x03")).to_be_visible()
        assert_harmless(page)
