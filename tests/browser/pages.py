"""Every page of the dashboard: a new one is one line here, and every test of `test_pages.py` visits it."""

from typing import NamedTuple


class PageCase(NamedTuple):
    """A page; names in braces are ids of the seed."""

    name: str
    path: str
    is_public: bool = False


PAGES = (
    PageCase("overview", "/"),
    PageCase("webhooks", "/webhooks"),
    PageCase("new-webhook", "/webhooks/new"),
    PageCase("edit-webhook", "/webhooks/{healthy}/edit"),
    PageCase("webhook", "/webhooks/{healthy}"),
    PageCase("failing-webhook", "/webhooks/{failing}"),
    PageCase("paused-webhook", "/webhooks/{paused}"),
    PageCase("delete-webhook", "/webhooks/{paused}/delete"),
    PageCase("deliveries", "/deliveries"),
    PageCase("deliveries-filtered", "/deliveries?state=held&type=session.launched"),
    PageCase("deliveries-nothing", "/deliveries?event=evt_of_nobody"),
    PageCase("delivery", "/deliveries/{waiting}"),
    PageCase("delivery-delivered", "/deliveries/{delivered}"),
    PageCase("dead-letters", "/dead-letters"),
    PageCase("job", "/jobs/{job}"),
    PageCase("account", "/account"),
    PageCase("audit", "/audit"),
    PageCase("notifications", "/notifications"),
    PageCase("choose-account", "/choose-account"),
    PageCase("not-found", "/webhooks/wh_of_nobody"),
    PageCase("wrong-filter", "/deliveries?state=nonsense"),
    PageCase("sign-in", "/sign-in", is_public=True),
    PageCase("sign-in-code", "/sign-in/code", is_public=True),
    PageCase("sign-in-link", "/sign-in/some-token", is_public=True),
)
