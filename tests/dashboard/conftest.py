"""The fixtures `api` and `browser`."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio
from dashboard.pages import FakeBrowser, signed_in

from api.sign_in import limits
from rest.api_fixture import ApiFixture, open_api


@pytest.fixture(autouse=True)
def frozen_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No attempt to sign in becomes possible again while a slow machine plays a test."""
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: 1000.0))


@pytest.fixture
def api_settings() -> dict[str, str]:
    """The settings of `api`, for a file to replace."""
    return {}


@pytest_asyncio.fixture
async def api(tmp_path: Path, api_settings: dict[str, str]) -> AsyncIterator[ApiFixture]:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", settings=api_settings) as api:
        yield api


@pytest_asyncio.fixture
async def browser(api: ApiFixture) -> AsyncIterator[FakeBrowser]:
    """Signed in as an owner of acme."""
    browser = await signed_in(api)
    yield browser
    await browser.close()
