"""The filter of a list of deliveries: read from the URL, and written into links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import Request

from api.paging import cursor_of
from api.shell.forms import with_query
from api.shell.times import from_zone
from api.shell.visits import Visit, zone_of
from streams.core.account import DeliveryFilter
from streams.core.delivery import DeathReason, State
from streams.core.errors import FieldError, Invalid
from streams.core.event import format_time, parse_time
from streams.core.event_data import EVENT_TYPES, is_storable
from streams.core.outcome import OutcomeKind
from streams.features.deliveries.search import Facets

ROWS = 50
# Parameters of the filter, in the order in which a link has them.
NAMES = (
    "state",
    "type",
    "webhook",
    "reason",
    "class",
    "error",
    "event",
    "session",
    "learner",
    "package",
    "dispatch",
    "since",
    "until",
)
SUBJECTS = {
    "event": "event",
    "session": "session",
    "learner": "learner",
    "package": "package",
    "dispatch": "dispatch",
}
ERRORS = {
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
    OutcomeKind.UNSENDABLE: "could not be built",
}
assert ERRORS.keys() == set(OutcomeKind) - {OutcomeKind.DELIVERED}
# Those without a response, and those with a meaning of their own; the rest is in the classes.
_OFFERED = [
    kind for kind in ERRORS if kind not in (OutcomeKind.CLIENT_ERROR, OutcomeKind.SERVER_ERROR, OutcomeKind.REDIRECT)
]
CLASSES = {3: "3xx", 4: "4xx", 5: "5xx"}
SPANS = {
    "last hour": timedelta(hours=1),
    "last 24 h": timedelta(hours=24),
    "last 7 days": timedelta(days=7),
}


def filter_of(request: Request, visit: Visit) -> DeliveryFilter:
    """The filter in the URL. Raises `Invalid`."""
    query = request.query_params
    return DeliveryFilter(
        visit.account.id,
        _text(query, "webhook"),
        _text(query, "event"),
        State(state) if (state := _one_of(query, "state", list(State))) else None,
        ROWS,
        _one_of(query, "type", list(EVENT_TYPES)),
        _one_of(query, "reason", list(DeathReason)),
        since=_time(request, "since"),
        until=_time(request, "until"),
        after=cursor_of(query.get("after")),
        session_id=_text(query, "session"),
        learner_id=_text(query, "learner"),
        package_id=_text(query, "package"),
        dispatch_id=_text(query, "dispatch"),
        outcome=_one_of(query, "error", [str(kind) for kind in ERRORS]),
        status_class=int(status) if (status := _one_of(query, "class", [str(one) for one in CLASSES])) else None,
    )


def _text(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name, "").strip() or None
    if text is not None and not is_storable(text):
        raise Invalid(FieldError(name, "must not contain the character NUL"))
    return text


def _one_of(query: Mapping[str, str], name: str, values: Sequence[str]) -> str | None:
    text = query.get(name) or None
    if text is not None and text not in values:
        raise Invalid(FieldError(name, f"is one of {', '.join(values)}"))
    return text


def _time(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if not text:
        return None
    moment = parse_time(text) or from_zone(text, zone_of(request))
    if moment is None:
        raise Invalid(FieldError(name, "must be a time such as 2026-04-10T12:00:00Z"))
    return moment


@dataclass(frozen=True, slots=True)
class Links:
    """Links to the same list with another filter. Times in them are absolute."""

    path: str
    present: Mapping[str, str]

    def __call__(self, **changes: object) -> str:
        """The link with these changes; None drops a part. It begins at the first page."""
        return with_query(self.path, **{**self.present, **changes})

    @property
    def is_filtered(self) -> bool:
        return bool(self.present)


def links_of(request: Request, wanted: DeliveryFilter) -> Links:
    """Links for the filter that a request has."""
    query = request.query_params
    present = {name: query[name] for name in NAMES if query.get(name)}
    for name, moment in (("since", wanted.since), ("until", wanted.until)):
        if moment is not None:
            present[name] = format_time(moment)
    return Links(request.url.path, present)


@dataclass(frozen=True, slots=True)
class Choice:
    """A value of a facet: what it is called, how many there are, the link that chooses or drops it."""

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
    """The facets of a list of deliveries; `names` are those of webhooks."""
    present = links.present

    def choices(name: str, values: Mapping[str, tuple[str, int | None]]) -> list[Choice]:
        chosen = present.get(name)
        return [
            Choice(label, links(**{name: None if value == chosen else value}), count, value == chosen)
            for value, (label, count) in values.items()
            if count or value == chosen or count is None
        ]

    by_count = sorted(facets.webhook_ids.items(), key=lambda pair: -pair[1])[:20]
    spans = [Choice(label, links(since=format_time(now - length), until=None)) for label, length in SPANS.items()]
    if present.get("since") or present.get("until"):
        spans.append(Choice("all that is kept", links(since=None, until=None)))
    return [
        Facet("State", choices("state", {one: (one, facets.states.get(one, 0)) for one in State})),
        Facet("Time", spans),
        Facet("Type", choices("type", {one: (one, facets.event_types.get(one, 0)) for one in EVENT_TYPES})),
        Facet("Webhook", choices("webhook", {one: (names.get(one, one), count) for one, count in by_count})),
        Facet("An attempt got", choices("class", {str(one): (label, None) for one, label in CLASSES.items()})),
        Facet("An attempt failed by", choices("error", {str(one): (ERRORS[one], None) for one in _OFFERED})),
    ]
