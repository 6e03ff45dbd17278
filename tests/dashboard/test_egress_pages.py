"""Customers see where requests come from, and operators who checks the addresses of endpoints."""

import re
from pathlib import Path

import pytest
from dashboard.pages import FakeBrowser
from dashboard.test_operator_pages import operator

from rest.api_fixture import ApiFixture, open_api

pytestmark = pytest.mark.slow

ADDRESSES = ["203.0.113.7", "198.51.100.0/24", "2001:db8::/48"]


@pytest.fixture
def api_settings() -> dict[str, str]:
    return {
        "SCORM_WEBHOOKS_SOURCE_ADDRESSES": "203.0.113.7, 198.51.100.0/24,2001:db8::/48",
        "SCORM_WEBHOOKS_USER_AGENT": "acme-learning/2",
        "SCORM_WEBHOOKS_EGRESS_PROXY": "http://proxy.example.com:3128",
        "SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS": "user:canary",
        "SCORM_WEBHOOKS_EGRESS_PROXY_RESOLVES": "true",
    }


async def test_the_api_lists_the_source_addresses(api: ApiFixture) -> None:
    assert await api.acme.get("/v1/source-addresses") == {"addresses": ADDRESSES, "userAgent": "acme-learning/2"}


async def test_without_the_setting_the_list_is_empty(tmp_path: Path) -> None:
    async with open_api(f"sqlite:///{tmp_path}/other.sqlite") as other:
        assert await other.acme.get("/v1/source-addresses") == {"addresses": [], "userAgent": "scorm-webhooks/1.0"}


@pytest.mark.parametrize("page", ["new", "edit"])
async def test_the_form_of_a_webhook_names_the_source_addresses(
    api: ApiFixture, browser: FakeBrowser, page: str
) -> None:
    path = "/webhooks/new" if page == "new" else f"/webhooks/{(await api.acme.webhook())['id']}/edit"
    html = (await browser.open(path)).html
    [item] = re.findall(r"<li [^>]*>Requests come from (.*?): let them through your firewall", html)
    assert re.findall(r"<code>(.*?)</code>", item) == [*ADDRESSES, "acme-learning/2"]


async def test_operators_see_that_the_proxy_checks_addresses(api: ApiFixture, browser: FakeBrowser) -> None:
    page = await (await operator(api)).open("/operator/stages")
    assert "The egress proxy resolves host names, and decides which addresses endpoints may have." in page.text
    assert "proxy.example.com" not in page.html
    assert "canary" not in page.html
    assert "egress proxy" not in (await browser.open("/webhooks/new")).text
