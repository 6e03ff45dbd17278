"""Every page of the dashboard: a new one is one line here, and every test of `test_pages.py` visits it."""

from typing import Literal, NamedTuple

Visitor = Literal["owner", "viewer", "operator", "guest"]
# The file beside the pictures with the navigation that each one shows.
NAVIGATION = "navigation.json"


class PageCase(NamedTuple):
    """A page, and who looks at it; names in braces are ids of the seed."""

    name: str
    path: str
    who: Visitor = "owner"


PAGES = (
    PageCase("overview", "/"),
    PageCase("webhooks", "/webhooks"),
    PageCase("new-webhook", "/webhooks/new"),
    PageCase("edit-webhook", "/webhooks/{healthy}/edit"),
    PageCase("webhook", "/webhooks/{healthy}"),
    PageCase("failing-webhook", "/webhooks/{failing}"),
    PageCase("paused-webhook", "/webhooks/{paused}"),
    PageCase("webhook-preview", "/webhooks/{healthy}?type=session.completed"),
    PageCase("pull-webhook", "/webhooks/{pulled}"),
    PageCase("edit-pull-webhook", "/webhooks/{pulled}/edit"),
    PageCase("delete-webhook", "/webhooks/{paused}/delete"),
    PageCase("code", "/webhooks/{healthy}/code"),
    PageCase("replay", "/webhooks/{healthy}/replay"),
    PageCase("replay-count", "/webhooks/{healthy}/replay?since=2026-01-01T00:00:00Z&state=delivered&backfill=1"),
    PageCase("replay-wrong", "/webhooks/{healthy}/replay?since=soon&state=delivered"),
    PageCase("events", "/events"),
    PageCase("events-filtered", '/events?filter={{"successStatus":"passed"}}'),
    PageCase("event-types", "/events/types"),
    PageCase("deliveries", "/deliveries"),
    PageCase("deliveries-filtered", "/deliveries?state=held&type=session.launched"),
    PageCase("deliveries-nothing", "/deliveries?event=evt_of_nobody"),
    PageCase("deliveries-unknown-id", "/deliveries?q=nowhere"),
    PageCase("retry-preview", "/deliveries/retry?type=session.completed"),
    PageCase("delivery", "/deliveries/{waiting}"),
    PageCase("delivery-delivered", "/deliveries/{delivered}"),
    PageCase("delivery-given-back", "/deliveries/{given_back}"),
    PageCase("dead-letters", "/dead-letters"),
    PageCase("dead-letters-filtered", "/dead-letters?reason=gone"),
    PageCase("preview", "/dead-letters/preview?act=discard&every=1"),
    PageCase("job", "/jobs/{job}"),
    PageCase("usage", "/usage"),
    PageCase("account", "/account"),
    PageCase("terminal", "/account/terminal"),
    PageCase("erase-learner", "/account/learners"),
    PageCase("erasure", "/account/erasures/{erasure}"),
    PageCase("audit", "/audit"),
    PageCase("notifications", "/notifications"),
    PageCase("choose-account", "/choose-account"),
    PageCase("not-found", "/webhooks/wh_of_nobody"),
    PageCase("no-page", "/webhooks/{healthy}/secret"),
    PageCase("wrong-filter", "/deliveries?state=nonsense"),
    PageCase("operator", "/operator", "operator"),
    PageCase("stages", "/operator/stages", "operator"),
    PageCase("operator-sign-in", "/operator/sign-in", "guest"),
    PageCase("sign-in", "/sign-in", "guest"),
    PageCase("sign-in-code", "/sign-in/code", "guest"),
    PageCase("sign-in-link", "/sign-in/{link}", "guest"),
)
# What a viewer sees is another page where roles matter.
VIEWER_PAGES = (
    PageCase("viewer-overview", "/", "viewer"),
    PageCase("viewer-webhook", "/webhooks/{paused}", "viewer"),
    PageCase("viewer-preview", "/webhooks/{paused}?type=session.launched", "viewer"),
    PageCase("viewer-deliveries", "/deliveries", "viewer"),
    PageCase("viewer-delivery", "/deliveries/{waiting}", "viewer"),
    PageCase("viewer-dead-letters", "/dead-letters", "viewer"),
    PageCase("viewer-terminal", "/account/terminal", "viewer"),
    PageCase("viewer-account", "/account", "viewer"),
)
# Those that a landing looks at; the night looks at all.
MAIN_PAGES = {
    "overview",
    "new-webhook",
    "edit-webhook",
    "webhook",
    "events",
    "deliveries",
    "delivery",
    "dead-letters",
    "account",
    "operator",
    "sign-in",
    "viewer-webhook",
}
