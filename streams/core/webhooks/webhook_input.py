"""The input for a webhook: the table of its fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from streams.core.limits import MAX_CONCURRENCY
from streams.core.webhooks.delivery_options import OPTION_RULES, DeliveryOptions
from streams.core.webhooks.field_rules import Kind, rule, rules_of, to_camel_case
from streams.core.webhooks.webhook import ALL_EVENTS, DEFAULT_MAX_CONCURRENCY, DeliveryMode, PeopleFields


@dataclass(frozen=True, slots=True)
class WebhookInput(PeopleFields):
    """Each field of a webhook that a person chooses; `events` contains types, or `*` for all.

    Its options have the rules of `DeliveryOptions`. A webhook with `pull` as its `delivery` has no URL.
    """

    account_id: str
    url: str = ""
    events: Sequence[str] = (ALL_EVENTS,)
    packages: Sequence[str] = ()
    dispatches: Sequence[str] = ()
    fallback_url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    fallback_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_concurrency: int = field(
        default=DEFAULT_MAX_CONCURRENCY,
        metadata=rule(
            kind=Kind.WHOLE_NUMBER,
            smallest=1,
            largest=MAX_CONCURRENCY,
            description="Requests in flight at once, at most.",
            label="Requests at once, at most",
        ),
    )
    filter: Mapping[str, Any] | None = None
    timeout_seconds: int | None = None
    retries: Sequence[str] | None = None
    pause_after: Mapping[str, int] | None = None
    on_gone: str | None = None
    resume: str | None = None
    rate_per_second: float | None = None
    rate_burst: int | None = None
    auth: Mapping[str, str] | None = None
    auth_secret: str | None = field(default=None, repr=False)
    fields: Sequence[str] | None = None
    retention_days: int | None = None
    delivery: str = DeliveryMode.PUSH

    @property
    def options(self) -> dict[str, Any]:
        """The options of its deliveries, by the names of the API; None is the default."""
        return {to_camel_case(name): getattr(self, name) for name in OPTION_FIELDS}


OPTION_FIELDS = [attribute.name for attribute in fields(DeliveryOptions)]
# The rules of its fields, except those that have a parser of their own.
FIELD_RULES = rules_of(WebhookInput) | OPTION_RULES
PEOPLE_FIELDS = [attribute.name for attribute in fields(PeopleFields)]
