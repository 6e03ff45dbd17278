"""One Chromium and one running system for all tests of this folder; a fresh browser context for each test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

import parts
from browser.chromium import open_context, running_chromium
from browser.running import Dashboard, running_dashboard
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
