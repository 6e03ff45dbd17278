"""What a webhook's page adds on request: the result of the last action, the steps for a new webhook, a test's body."""

import json
from dataclasses import dataclass
from datetime import datetime

from api.shell.visits import Visit
from api.webhooks.form import EXAMPLE_TIME, TYPE_DESCRIPTIONS, example_body
from streams.core.deliveries.held import HeldChoice
from streams.core.deliveries.rendering import render_body
from streams.core.errors import FieldError, Invalid
from streams.core.events.event import render
from streams.core.events.event_data import EVENT_TYPES
from streams.core.webhooks.url import host_of
from streams.core.webhooks.webhook import DeliveryMode, Status, Webhook, takes
from streams.features.webhooks.samples import sample_event
from streams.features.webhooks.synthetic_events import choose_type

# The results of actions, by the parameter `done` of the next page, with the status that the webhook then has.
_NOTES = {
    "saved": (None, "Saved."),
    "paused": (Status.PAUSED, "Paused. New events are held until you enable it."),
    HeldChoice.DELIVER: (Status.ACTIVE, "Enabled. New events are sent at once, held ones oldest first."),
    HeldChoice.KEEP: (Status.ACTIVE, "Enabled. New events are sent at once. Held ones become dead letters."),
    HeldChoice.DISCARD: (Status.ACTIVE, "Enabled. New events are sent at once. Held ones are discarded."),
    "rotation-finished": (None, "The old secret has ended. Events are signed with the new one alone."),
}
_PULL_NOTES = {
    **_NOTES,
    HeldChoice.DELIVER: (Status.ACTIVE, "Enabled. Readers get events again, oldest first."),
    HeldChoice.KEEP: (Status.ACTIVE, "Enabled. Readers get events again. Held ones become dead letters."),
    HeldChoice.DISCARD: (Status.ACTIVE, "Enabled. Readers get events again. Held ones are discarded."),
}


def note_of(visit: Visit, webhook: Webhook) -> str:
    """The result of the last action; empty if something else has happened since."""
    is_pull = webhook.delivery is DeliveryMode.PULL
    if visit.query["new"]:
        if webhook.status is Status.PAUSED:
            return "Created and paused. Events are held until you enable it. Three steps are left."
        what_follows = "Events wait for readers" if is_pull else "Events are sent"
        return f"Created. {what_follows} from now on. Three steps are left."
    status, note = (_PULL_NOTES if is_pull else _NOTES).get(visit.query["done"], (None, ""))
    return note if status in (None, webhook.status) else ""


def unresolved_host(visit: Visit, webhook: Webhook) -> str:
    """The host that did not resolve when the webhook was saved, if it is still one of its hosts."""
    host = visit.query["unresolved"]
    return host if host in (host_of(webhook.url), host_of(webhook.fallback_url or "")) else ""


def example_bodies(webhook: Webhook, now: datetime) -> dict[str, object]:
    """The body of an event of each type that the webhook wants."""
    fields = webhook.options.fields
    types = [event_type for event_type in TYPE_DESCRIPTIONS if takes(webhook, event_type)]
    return {event_type: json.loads(render_body(example_body(event_type, now), fields)) for event_type in types}


# The form of an id that a test gets.
_EXAMPLE_ID = "evt_01HYX9K2M3N4P5Q6R7S8T9V0W1"


@dataclass(frozen=True, slots=True)
class BodyPreview:
    """The body that a test of this type has, except for its id and its times."""

    event_type: str
    raw: str

    @property
    def body(self) -> object:
        return json.loads(self.raw)


def preview_of_test(webhook: Webhook, event_type: str) -> BodyPreview:
    """A preview of a test's body; an empty type means the test's default type. Raises `Invalid`."""
    event_type = event_type or choose_type(webhook)
    if event_type not in EVENT_TYPES:
        raise Invalid(FieldError("type", "must be one of: " + ", ".join(EVENT_TYPES)))
    event = sample_event(event_type, _EXAMPLE_ID, webhook.account_id, EXAMPLE_TIME)
    return BodyPreview(event_type, render_body(render(event), webhook.options.fields).decode())
