"""One Chromium and one running system for all tests of this folder; a fresh browser context for each test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

import parts
from browser.chromium import open_context, running_chromium, sign_in
from browser.running import Customer, Dashboard, running_dashboard
from browser.seed import SETTINGS, Seed, seed_customer
from browser.untrusted import seed_untrusted
from conftest import left_out


# Playwright's event loop runs until it ends: a scope beyond this folder would break asynchronous tests elsewhere.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    executable = parts.chromium()
    if executable is None:
        left_out("Chromium")
    with running_chromium(executable) as browser:
        yield browser


@pytest.fixture(scope="package")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with running_dashboard(tmp_path_factory.mktemp("dashboard"), SETTINGS) as dashboard:
        yield dashboard


@pytest.fixture(scope="package")
def seed(dashboard: Dashboard, chromium: Browser) -> Seed:
    """An account as customers have it, which no test changes."""
    return seed_customer(dashboard, chromium)


@pytest.fixture(scope="package")
def untrusted(dashboard: Dashboard, chromium: Browser) -> Seed:
    """An account of untrusted texts, which no test changes."""
    return seed_untrusted(dashboard, chromium)


@pytest.fixture
def context(chromium: Browser, dashboard: Dashboard) -> Iterator[BrowserContext]:
    """A browser without cookies. The test fails if anything went wrong on any of its pages."""
    with open_context(chromium, dashboard.url) as (context, problems):
        yield context
        assert problems == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture(scope="session")
def axe() -> str:
    script = parts.axe()
    if script is None:
        left_out("axe-core")
    return script.read_text()


@pytest.fixture
def acme(dashboard: Dashboard) -> Customer:
    """A new account."""
    return dashboard.customer("Acme Learning")


@pytest.fixture
def webhook(dashboard: Dashboard, acme: Customer) -> str:
    """The id of a webhook of acme, with an endpoint at /plain."""
    return acme.webhook(dashboard.receiver.url("/plain"))


@pytest.fixture
def plain_page(chromium: Browser, dashboard: Dashboard, acme: Customer) -> Iterator[Page]:
    """An owner of acme who is signed in, in a browser that runs no script."""
    link = dashboard.sign_in_link(acme, dashboard.user(acme, "ada@acme.example"))
    with open_context(chromium, dashboard.url, java_script_enabled=False) as (context, problems):
        yield sign_in(context, link)
        assert problems == []


@pytest.fixture
def live_page(chromium: Browser, dashboard: Dashboard, acme: Customer) -> Iterator[Page]:
    """An owner of acme who is signed in. The test moves the clock of the page."""
    link = dashboard.sign_in_link(acme, dashboard.user(acme, "ada@acme.example"))
    with open_context(chromium, dashboard.url) as (context, problems):
        context.clock.install()
        yield sign_in(context, link)
        assert problems == []
