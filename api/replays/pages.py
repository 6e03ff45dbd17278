"""The page to send a webhook's events of a period again: a form, a count, and the start of a job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.admission import in_class
from api.shell.forms import Form, SentForm
from api.shell.once import new_form_key
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.times import FIELD_TIME_FORMAT, clock_text, from_zone, parse_zone, to_zone
from api.shell.visits import MayWriteDeliveries, Visit, zone_of
from api.webhooks.form import TYPE_DESCRIPTIONS
from streams.core.deliveries.delivery import REPLAYABLE, State
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Conflict, FieldError, Invalid
from streams.core.queues.request_class import RequestClass
from streams.core.times import parse_time
from streams.core.webhooks.webhook import Registration
from streams.features.replays.rules import DEFAULT_STATES, ReplayCount, ReplayRequest

router = APIRouter(include_in_schema=False, route_class=PageRoute)

# The meaning of each state, for the form.
STATE_DESCRIPTIONS = {
    State.DELIVERED: "the endpoint responded with success, and may have lost them",
    State.DEAD: "dead letters: given up",
    State.DISCARDED: "a person discarded them",
}
assert tuple(STATE_DESCRIPTIONS) == REPLAYABLE
# The format of the browser's date field.


@dataclass(frozen=True, slots=True)
class ReplayForm:
    """The form's fields as they were typed. Times without a zone are in `zone`."""

    since: str = ""
    until: str = ""
    types: tuple[str, ...] = ()
    states: tuple[str, ...] = DEFAULT_STATES
    backfill: bool = False
    zone: str = ""

    @classmethod
    def from_form(cls, form: Form) -> "ReplayForm":
        return cls(
            form["since"],
            form["until"],
            tuple(form.values("type")),
            tuple(form.values("state")),
            bool(form["backfill"]),
            form["zone"],
        )

    def in_zone(self, zone: ZoneInfo) -> "ReplayForm":
        """The form with times as its fields show them."""
        return replace(self, since=_local(self.since, zone), until=_local(self.until, zone), zone=zone.key)

    def to_replay_request(self, webhook_id: str, zone: ZoneInfo) -> ReplayRequest:
        """The request that the submitted form describes. Raises `Invalid`."""
        errors = list[FieldError]()
        since, end = _moment("since", self.since, zone, errors), _moment("until", self.until, zone, errors)
        if not self.since:
            errors.append(FieldError("since", "is required"))
        if unknown_states := sorted(set(self.states) - set(State)):
            errors.append(FieldError("states", f"{unknown_states[0]!r} is not a state"))
        if errors or since is None:
            raise Invalid(*errors)
        return ReplayRequest(webhook_id, since, end, self.types, tuple(map(State, self.states)), self.backfill)


def _moment(name: str, text: str, zone: ZoneInfo, errors: list[FieldError]) -> datetime | None:
    """A time with a zone, or a time in the person's zone."""
    moment = parse_time(text) or from_zone(text, zone)
    if text and moment is None:
        errors.append(FieldError(name, "must be a date and a time such as 2026-04-10 12:00"))
    return moment


def _local(text: str, zone: ZoneInfo) -> str:
    """A time as a field shows it; any other text stays as it was typed."""
    if moment := parse_time(text):
        return f"{to_zone(moment, zone):{FIELD_TIME_FORMAT}}"
    return text


@dataclass(frozen=True, slots=True)
class Preset:
    """A commonly used period, and a link that fills it into the form and counts."""

    label: str
    link: str


async def _presets(visit: Visit, registration: Registration, replay_form: ReplayForm) -> Sequence[Preset]:
    """Presets with absolute times in the form's zone; they keep the form's other fields."""
    zone, now = _zone(replay_form, visit.request), visit.services.clock.now()
    local = to_zone(now, zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    other_fields = {
        "type": replay_form.types,
        "state": replay_form.states,
        "backfill": "1" if replay_form.backfill else (),
        "zone": zone.key,
    }

    def make_preset(label: str, since: datetime, until: datetime) -> Preset:
        times = {"since": f"{since:{FIELD_TIME_FORMAT}}", "until": f"{until:{FIELD_TIME_FORMAT}}"}
        return Preset(label, f"{visit.request.url.path}?{urlencode({**times, **other_fields}, doseq=True)}#count")

    presets = [
        make_preset("last hour", to_zone(now - timedelta(hours=1), zone), local),
        make_preset("yesterday", midnight - timedelta(days=1), midnight),
    ]
    label, failed_at = await _first_failure(visit, registration)
    if failed_at:
        # An event is first seen before its first attempt.
        since = to_zone(failed_at.replace(second=0, microsecond=0) - timedelta(minutes=1), zone)
        presets.insert(0, make_preset(f"{label}, {clock_text(failed_at, now, zone)}", since, local))
    return presets


async def _first_failure(visit: Visit, registration: Registration) -> tuple[str, datetime | None]:
    """When the current failure streak began; without one, the first hour of the last 24 that has a failure."""
    stats = await visit.services.webhook_stats.stats(registration)
    hours = [hour.hour for hour in stats.hours if hour.outcome != OutcomeKind.DELIVERED]
    if stats.failure_streak.first_failed_at:
        return "since the first failure", stats.failure_streak.first_failed_at
    return "since the hour of the first failure", min(hours, default=None)


@router.get("/webhooks/{webhook_id}/replay")
@in_class(RequestClass.SLOW)
async def replay_page(webhook_id: str, visit: MayWriteDeliveries) -> Response:
    """The form; with its fields in the URL, also the count."""
    registration = await visit.services.webhooks.find(webhook_id, visit.account.id)
    if "since" not in visit.request.query_params:
        return await _page(visit, registration, ReplayForm())
    replay_form = ReplayForm.from_form(visit.query)
    try:
        replay_request = replay_form.to_replay_request(webhook_id, _zone(replay_form, visit.request))
        # The job sends the deliveries that are counted now, and none that come later.
        replay_request = replace(replay_request, until=replay_request.until or visit.services.clock.now())
        count = await visit.services.replays.count(registration.webhook, replay_request)
    except Invalid as error:
        return await _page(visit, registration, replay_form, errors=error.errors)
    return await _page(visit, registration, replay_form, replay_request, count)


@router.post("/webhooks/{webhook_id}/replay")
@in_class(RequestClass.SLOW)
async def start(webhook_id: str, visit: MayWriteDeliveries, form: SentForm) -> Response:
    """Start the job. The same form sent twice starts one job."""
    registration = await visit.services.webhooks.find(webhook_id, visit.account.id)
    replay_form = ReplayForm.from_form(form)
    try:
        replay_request = replay_form.to_replay_request(webhook_id, _zone(replay_form, visit.request))
        job = await visit.services.replays.start(
            registration.webhook, replay_request, actor=visit.actor, idempotency_key=form["once"] or None
        )
    except Invalid as error:
        return await _page(visit, registration, replay_form, errors=error.errors)
    except Conflict as error:
        return await _page(visit, registration, replay_form, problem=str(error))
    return redirect(f"/jobs/{job.id}")


def _zone(replay_form: ReplayForm, request: Request) -> ZoneInfo:
    """The zone of the form, which a shared link keeps; without a known one, the person's zone."""
    return parse_zone(replay_form.zone) or zone_of(request)


async def _page(
    visit: Visit,
    registration: Registration,
    replay_form: ReplayForm,
    replay_request: ReplayRequest | None = None,
    count: ReplayCount | None = None,
    errors: tuple[FieldError, ...] = (),
    problem: str = "",
) -> Response:
    context: Mapping[str, Any] = {
        "registration": registration,
        "fields": replay_form.in_zone(_zone(replay_form, visit.request)),
        "replay_request": replay_request,
        "count": count,
        "presets": await _presets(visit, registration, replay_form),
        "problem": problem,
        "types": TYPE_DESCRIPTIONS,
        "states": STATE_DESCRIPTIONS,
        "once": new_form_key(),
    }
    return render(visit, "replay.html", status=409 if problem else None, errors=errors, **context)
