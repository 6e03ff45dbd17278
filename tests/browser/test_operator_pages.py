"""An operator's acts, in a browser that runs no script."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.checks import header_lines, too_wide
from browser.chromium import NARROW, open_context, viewport
from browser.running import Dashboard
from browser.seed import sign_in_as_operator

pytestmark = pytest.mark.e2e


@pytest.fixture
def page(chromium: Browser, dashboard: Dashboard) -> Iterator[Page]:
    """An operator who is signed in."""
    with open_context(chromium, dashboard.url, java_script_enabled=False) as (context, problems):
        yield sign_in_as_operator(context)
        assert problems == []


def test_a_wrong_operator_key_is_refused(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.goto("/operator/sign-in")
    page.get_by_label("Operator key").fill("guess")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Operator key is not an operator key")).to_be_visible()


def test_an_operator_opens_an_account_and_limits_it(page: Page) -> None:
    page.get_by_label("Name", exact=True).fill("Initech")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_text("Its first API key, shown only now")).to_be_visible()
    page.get_by_label("Plan limit of Initech").fill("500")
    page.get_by_role("row").filter(has_text="Initech").get_by_role("button", name="Set").click()
    expect(page.get_by_label("Plan limit of Initech")).to_have_value("500")


def test_an_operator_looks_at_an_account_and_leaves(dashboard: Dashboard, page: Page) -> None:
    dashboard.customer("Umbrella Academy")
    page.goto("/operator?name=Umbrella")
    page.get_by_role("row").filter(has_text="Umbrella").get_by_role("button", name="Enter").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_text("Ask an owner or a member")).to_be_visible()
    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_role("row").filter(has_text="the platform").first).to_be_visible()
    page.set_viewport_size(viewport(NARROW))
    assert too_wide(page) == []
    assert header_lines(page) <= 2
    page.get_by_role("button", name="Leave account").click()
    expect(page.get_by_role("heading", name="Accounts", exact=True)).to_be_visible()


def test_an_operator_sees_the_stages_and_signs_out(page: Page) -> None:
    page.get_by_role("link", name="Stages").click()
    expect(page.get_by_role("row").filter(has_text="deliver").first).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.goto("/operator")
    expect(page.get_by_role("heading", name="Sign in as an operator")).to_be_visible()
