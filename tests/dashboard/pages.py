"""A browser without a screen: pages, forms, cookies, and the headers that say where a request comes from."""

import re
from dataclasses import dataclass
from html import unescape
from typing import Any

import httpx

from rest.api_fixture import PUBLIC_URL, ApiFixture

SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


@dataclass
class Page:
    """A response with its text as a person reads it."""

    response: httpx.Response

    @property
    def text(self) -> str:
        without_tags = re.sub(r"<[^>]*>", " ", self.response.text)
        return " ".join(unescape(without_tags).split())

    @property
    def html(self) -> str:
        return self.response.text

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def path(self) -> str:
        return self.response.url.raw_path.decode()


class FakeBrowser:
    """Keeps cookies and follows redirects. It sends forms as a page of ours does."""

    def __init__(self, api: ApiFixture) -> None:
        transport = httpx.ASGITransport(api.app)
        self.client = httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL, follow_redirects=True)

    async def open(self, path: str, **headers: str) -> Page:
        return Page(await self.client.get(path, headers=headers))

    async def send(self, path: str, request_headers: dict[str, str] | None = None, **fields: Any) -> Page:
        headers = SAME_ORIGIN if request_headers is None else request_headers
        return Page(await self.client.post(path, data=fields, headers=headers))

    async def confirm(self, page: Page) -> Page:
        """Send the last form of a page that posts, with its hidden fields."""
        content = page.html.partition("<main")[2].partition("</main>")[0]
        form = re.findall(r'<form method="post"([^>]*)>(.*?)</form>', content, re.DOTALL)[-1]
        [action] = re.findall(r'action="([^"]*)"', form[0]) or [page.path.partition("?")[0]]
        fields: dict[str, Any] = {}
        for name, value in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form[1]):
            fields.setdefault(name, []).append(unescape(value))
        return await self.send(unescape(action), **fields)

    async def close(self) -> None:
        await self.client.aclose()


async def signed_in(api: ApiFixture, role: str = "owner", account: str = "acme") -> FakeBrowser:
    """A browser that used a portal link."""
    path = f"/v1/accounts/{api.clients[account].account_id}/portal-links"
    link = await api.operator.post(path, {"role": role})
    browser = FakeBrowser(api)
    page = await browser.send(link["url"].removeprefix(PUBLIC_URL))
    assert page.path == "/", page.text
    return browser
