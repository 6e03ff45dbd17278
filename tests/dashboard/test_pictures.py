"""The pictures of the documents show the navigation that the dashboard has."""

import json
import re
from pathlib import Path

from dashboard.pages import FakeBrowser, Page

from browser.pages import NAVIGATION, PAGES
from rest.api_fixture import OPERATOR_KEY, ApiFixture

PICTURES = Path(__file__).parents[2] / "docs" / "images"
SHOWN: dict[str, str] = json.loads((PICTURES / NAVIGATION).read_text())
OPERATOR_PAGES = {case.name for case in PAGES if case.who == "operator"}


async def test_each_picture_has_the_navigation_of_today(api: ApiFixture, browser: FakeBrowser) -> None:
    operator = FakeBrowser(api)
    of_operators = navigation_of(await operator.send("/operator/sign-in", key=OPERATOR_KEY))
    of_accounts = navigation_of(await browser.open("/"))
    assert len(of_accounts) > len(of_operators) > 1
    for picture, shown in SHOWN.items():
        page_name, _, _ = picture.rsplit("-", 2)
        has = of_operators if page_name in OPERATOR_PAGES else of_accounts
        assert shown == has, f"{picture} shows a navigation that the dashboard no longer has: run `make screenshots`"


def test_the_navigation_of_each_picture_is_known() -> None:
    # The pictures of Prometheus show no page of the dashboard.
    pictures = {path.name for path in PICTURES.glob("*.png") if not path.name.startswith("prometheus-")}
    assert pictures == SHOWN.keys(), "run `make screenshots`; remove from navigation.json what is no longer there"


def navigation_of(page: Page) -> str:
    links = page.html.partition('<nav aria-label="Pages"')[2].partition("</nav>")[0]
    return ", ".join(re.findall(r"<a [^>]*>([^<]*)</a>", links))
