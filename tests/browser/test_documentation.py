"""The documentation in a browser: its policy accepts it, it asks no other host, and its search finds pages."""

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from api.documentation.site import built_site
from browser.running import Dashboard
from conftest import left_out
from streams.core.errors import problem_type

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def site() -> None:
    if not built_site().is_built:
        left_out("the documentation: make docs")


def test_the_pages_load_without_a_violation(page: Page) -> None:
    # The fixture `context` fails for a violation of the policy, an exception, and a request to another host.
    page.goto("/docs/", wait_until="networkidle")
    expect(page.get_by_role("heading", name="scorm-webhooks").first).to_be_visible()
    page.get_by_role("link", name="You run the system").first.click()
    expect(page.get_by_role("heading", name="Start: you run the system").first).to_be_visible()
    for path in ("/docs/api-reference", "/docs/event-types.html", "/docs/dashboard", "/docs/repository/CHANGELOG"):
        assert page.goto(path, wait_until="networkidle")


def test_the_search_finds_a_page_without_a_service(page: Page) -> None:
    page.goto("/docs/")
    page.get_by_role("textbox", name="Search").first.fill("PgBouncer")
    page.keyboard.press("Enter")
    results = page.locator("#search-results")
    expect(results.get_by_role("link", name="PostgreSQL and its connections").first).to_be_visible()
    results.get_by_role("link", name="PostgreSQL and its connections").first.click()
    expect(page.get_by_role("heading", name="When a pooler is worth it").first).to_be_visible()


def test_the_theme_changes_by_its_own_script(page: Page) -> None:
    page.goto("/docs/")
    before = page.locator("body").get_attribute("data-theme")
    page.locator("button.theme-toggle:visible").first.click()
    expect(page.locator("body")).not_to_have_attribute("data-theme", before or "")


def test_the_type_of_a_problem_leads_to_its_section(dashboard: Dashboard, context: BrowserContext) -> None:
    response = context.request.get("/v1/webhooks")
    assert response.json()["type"] == problem_type("unauthorized")
    page = context.new_page()
    page.goto(response.json()["type"])
    expect(page.locator("#unauthorized")).to_be_in_viewport()


def test_the_page_that_tries_the_api_loads(page: Page) -> None:
    page.goto("/docs/api/", wait_until="networkidle")
    # It draws every operation before it shows one.
    expect(page.get_by_text("Register a webhook").first).to_be_visible(timeout=60_000)
