"""The types that a person enters, and the ones that a webhook's record names."""

from builders import event, webhook
from streams.core.webhooks.webhook import ALL_EVENTS, Registration, Webhook, to_entered_types
from streams.core.webhooks.webhook_input import WebhookInput
from streams.features.webhooks.input import to_webhook_fields, to_webhook_input

ALL_AND_ENDED = (ALL_EVENTS, "session.ended")
NOON = event().occurred_at


def entered(*events: str) -> Webhook:
    fields = to_webhook_fields(WebhookInput("acme", "https://hooks.example.com/", events=events))
    return Webhook(id="wh_1", secrets=webhook().secrets, **fields)


def test_a_person_sees_the_types_as_entered() -> None:
    for events in (ALL_AND_ENDED, (ALL_EVENTS,), ("session.ended",), ("package.updated", "session.launched")):
        assert to_webhook_input(Registration(entered(*events), NOON)).events == sorted(events)
        assert to_entered_types(entered(*events).event_types) == sorted(events)
