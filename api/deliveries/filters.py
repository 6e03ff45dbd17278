"""The filter of a list of deliveries: read from the URL, and written into links."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request

from api.deliveries.reasons import REASON_MESSAGES
from api.shell.forms import Form, with_query
from api.shell.times import from_zone
from api.shell.visits import Visit, zone_of
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import DeathReason, State
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import FieldError, Invalid
from streams.core.events.event import parse_pair
from streams.core.events.event_data import EVENT_TYPES, is_storable
from streams.core.times import TIME_DESCRIPTION, format_time, parse_time
from streams.features.deliveries.search import Facets

PAGE_ROWS = 50
# Parameters of the filter, in the order in which a link has them, and the field that each one gives.
FILTER_FIELDS = {
    "state": "state",
    "type": "event_type",
    "webhook": "webhook_id",
    "reason": "reason",
    "class": "status_class",
    "error": "outcome",
    "event": "event_id",
    "session": "session_id",
    "learner": "learner_id",
    "package": "package_id",
    "dispatch": "dispatch_id",
    "metadata": "metadata",
    "since": "since",
    "until": "until",
}
FAILURE_LABELS = {
    OutcomeKind.TIMEOUT: "no response in time",
    OutcomeKind.CONNECT_TIMEOUT: "no connection in time",
    OutcomeKind.REFUSED: "connection refused",
    OutcomeKind.RESET: "connection closed",
    OutcomeKind.DNS: "host name not found",
    OutcomeKind.TLS: "TLS or certificate",
    OutcomeKind.CLIENT_ERROR: "4xx response",
    OutcomeKind.SERVER_ERROR: "5xx response",
    OutcomeKind.THROTTLED: "asked to wait",
    OutcomeKind.REDIRECT: "redirect",
    OutcomeKind.GONE: "410 Gone",
    OutcomeKind.FORBIDDEN_ADDRESS: "private address",
    OutcomeKind.INVALID_RESPONSE: "not HTTP",
    OutcomeKind.CREDENTIALS: "credentials refused",
    OutcomeKind.TOKEN_UNAVAILABLE: "no token",
    OutcomeKind.PROXY_ERROR: "egress proxy",
    OutcomeKind.UNSENDABLE: "could not be built",
    OutcomeKind.NOT_ACKNOWLEDGED: "given back by a reader",
    OutcomeKind.LEASE_ENDED: "not acknowledged in time",
}
assert FAILURE_LABELS.keys() == set(OutcomeKind) - {OutcomeKind.DELIVERED}
# Outcomes without a response, and those with a meaning of their own; the other outcomes are in the classes.
_OUTCOME_CHOICES = [
    kind
    for kind in FAILURE_LABELS
    if kind not in (OutcomeKind.CLIENT_ERROR, OutcomeKind.SERVER_ERROR, OutcomeKind.REDIRECT)
]
STATUS_CLASSES = {3: "3xx", 4: "4xx", 5: "5xx"}
TIME_SPANS = {
    "last hour": timedelta(hours=1),
    "last 24 h": timedelta(hours=24),
    "last 7 days": timedelta(days=7),
}


# Parameters that accept one of some values, and the meaning of each value.
_ALLOWED_VALUES: Mapping[str, Mapping[str, object]] = {
    "state": {state: state for state in State},
    "type": {event_type: event_type for event_type in EVENT_TYPES},
    "reason": {reason: reason for reason in DeathReason},
    "error": {failure: failure for failure in FAILURE_LABELS},
    "class": {str(status_class): status_class for status_class in STATUS_CLASSES},
}


def filter_of(visit: Visit, form: Form, names: Iterable[str] = FILTER_FIELDS, **fixed_fields: Any) -> DeliveryFilter:
    """The filter in a form, or in the URL. Raises `Invalid`."""
    zone = zone_of(visit.request)
    values = {FILTER_FIELDS[name]: _value(name, form[name], zone) for name in names if form[name]}
    return DeliveryFilter(visit.account.id, limit=PAGE_ROWS, **values, **fixed_fields)


def _value(name: str, text: str, zone: ZoneInfo) -> Any:
    if name in ("since", "until"):
        value: object = parse_time(text) or from_zone(text, zone)
        message = "must be a time such as 2026-04-10T12:00:00Z"
    elif name == "metadata":
        return parse_pair(text)
    elif values := _ALLOWED_VALUES.get(name):
        value, message = values.get(text), f"is one of {', '.join(values)}"
    else:
        value, message = text if is_storable(text) else None, "must not contain the character NUL"
    if value is None:
        raise Invalid(FieldError(name, message))
    return value


def counted_until(form: Form) -> datetime | None:
    """When the matches were counted: later changes are not part of the job. Raises `Invalid`."""
    moment = parse_time(form["counted"])
    if moment is None and form["counted"]:
        raise Invalid(FieldError("counted", TIME_DESCRIPTION))
    return moment


@dataclass(frozen=True, slots=True)
class Links:
    """Links to the same list with another filter. Times in them are absolute."""

    path: str
    parameters: Mapping[str, str]

    def __call__(self, **changes: object) -> str:
        """The link with these changes; None drops a part. It leads to the first page."""
        return with_query(self.path, **{**self.parameters, **changes})

    @property
    def is_filtered(self) -> bool:
        return bool(self.parameters)


def links_of(request: Request, delivery_filter: DeliveryFilter) -> Links:
    """Links for a request's filter."""
    query = request.query_params
    parameters = {name: query[name] for name in FILTER_FIELDS if query.get(name)}
    for name, moment in (("since", delivery_filter.since), ("until", delivery_filter.until)):
        if moment is not None:
            parameters[name] = format_time(moment)
    return Links(request.url.path, parameters)


def chips_of(links: Links, names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each part of the filter, with the link that drops it; `names` are the names of webhooks."""
    labels = {
        "class": lambda value: f"an attempt got {value}xx",
        "webhook": lambda value: names.get(value, value),
        "reason": lambda value: REASON_MESSAGES.get(value, value),
    }
    return [
        (labels.get(name, lambda value, name=name: f"{name}: {value}")(value), links(**{name: None}))
        for name, value in links.parameters.items()
    ]


@dataclass(frozen=True, slots=True)
class Choice:
    """A value of a facet: its name, its count, and the link that chooses or drops it."""

    label: str
    link: str
    count: int | None = None
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Facet:
    """The values by which a list can be narrowed."""

    title: str
    choices: Sequence[Choice]


def facets_of(links: Links, facets: Facets, names: Mapping[str, str], now: datetime) -> list[Facet]:
    """The facets of a list of deliveries; `names` are the names of webhooks."""
    parameters = links.parameters

    def choices(name: str, values: Mapping[str, tuple[str, int | None]]) -> list[Choice]:
        chosen_value = parameters.get(name)
        return [
            Choice(label, links(**{name: None if value == chosen_value else value}), count, value == chosen_value)
            for value, (label, count) in values.items()
            if count or value == chosen_value or count is None
        ]

    by_count = sorted(facets.webhook_ids.items(), key=lambda pair: -pair[1])[:20]
    spans = [Choice(label, links(since=format_time(now - length), until=None)) for label, length in TIME_SPANS.items()]
    if parameters.get("since") or parameters.get("until"):
        spans.append(Choice("all that is kept", links(since=None, until=None)))
    return [
        Facet("State", choices("state", {state: (state, facets.states.get(state, 0)) for state in State})),
        Facet("Time", spans),
        Facet("Type", choices("type", {state: (state, facets.event_types.get(state, 0)) for state in EVENT_TYPES})),
        Facet("Webhook", choices("webhook", {state: (names.get(state, state), count) for state, count in by_count})),
        Facet(
            "An attempt got", choices("class", {str(state): (label, None) for state, label in STATUS_CLASSES.items()})
        ),
        Facet(
            "An attempt failed by",
            choices("error", {str(state): (FAILURE_LABELS[state], None) for state in _OUTCOME_CHOICES}),
        ),
    ]
