"""Pages of webhooks: the list, the form, and one webhook with what can be done with it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.dashboard.charts import attempts_chart, times_chart
from api.dashboard.code_samples import curl, samples
from api.dashboard.forms import Form, form_of, with_query
from api.dashboard.once import new_once, once
from api.dashboard.page_route import PageRoute
from api.dashboard.rendering import duration, redirect, render
from api.dashboard.rows import actor_name, url_for
from api.dashboard.visits import Visit, site_of, visit_of
from api.paging import cursor_of, text_of
from streams.core.access import Scope
from streams.core.account import DeliveryDetails, DeliveryFilter
from streams.core.audit import AuditFilter
from streams.core.delivery import State
from streams.core.delivery_state import StateCount
from streams.core.errors import FieldError, Invalid, Unavailable
from streams.core.event_data import EVENT_TYPES
from streams.core.health import FAILURES_TO_PAUSE
from streams.core.held import HeldChoice
from streams.core.verdict import PAUSE_WORDS
from streams.core.webhook import DEFAULT_MAX_CONCURRENCY, PauseReason, Registration, Status
from streams.core.webhook_stats import percentile_ms
from streams.services.webhook_input import ALL_EVENTS, WebhookInput, webhook_input

router = APIRouter(include_in_schema=False, route_class=PageRoute)

ROWS = 50
# What each type says, for the form.
TYPES = {
    "session.launched": "a learner opened a course",
    "session.completed": "a learner finished a course, passed or failed",
    "session.scored": "a score was recorded",
    "package.updated": "a new version of a package is there",
    "usage.threshold": "the plan's launches are nearly used, or used up",
}
assert TYPES.keys() == EVENT_TYPES.keys()


@router.get("/webhooks")
async def webhooks_page(request: Request, after: str | None = None) -> Response:
    """Newest first."""
    visit = await visit_of(request)
    page = await visit.services.webhooks.page(visit.account.id, cursor_of(after), ROWS)
    verdicts = await visit.services.webhook_stats.verdicts(page.rows)
    found = list(zip(page.rows, verdicts, strict=True))
    return render(request, "webhooks.html", visit, found=found, next=text_of(page.next), after=after)


# -- create and edit -------------------------------------------------------------------------------------------------


@router.get("/webhooks/new")
async def new_page(request: Request) -> Response:
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    return _form_page(request, visit, None, _empty())


@router.post("/webhooks/new")
async def create(request: Request) -> Response:
    """Register a webhook; the next page shows its secret."""
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    form = await form_of(request)
    return await once(visit, form, lambda: _create(request, visit, form))


async def _create(request: Request, visit: Visit, form: Form) -> Response:
    try:
        entered = WebhookInput(visit.account.id, **_entered(form, None))
        made = await visit.services.webhooks.register(entered, by=visit.member.actor)
    except Invalid as wrong:
        return _form_page(request, visit, None, _kept(form), wrong.errors)
    return redirect(f"/webhooks/{made.changed.registration.webhook.id}?new=1")


@router.get("/webhooks/{webhook_id}/edit")
async def edit_page(webhook_id: str, request: Request) -> Response:
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    known = await visit.services.webhooks.find(webhook_id, visit.account.id)
    return _form_page(request, visit, known, _fields_of(webhook_input(known)))


@router.post("/webhooks/{webhook_id}/edit")
async def edit(webhook_id: str, request: Request) -> Response:
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    form = await form_of(request)
    known = await visit.services.webhooks.find(webhook_id, visit.account.id)
    try:
        changes = _entered(form, known)
        version = form.number("version", "version", 0) or None
        await visit.services.webhooks.change(
            webhook_id, changes, by=visit.member.actor, account_id=visit.account.id, version=version
        )
    except Invalid as wrong:
        return _form_page(request, visit, known, _kept(form), wrong.errors)
    return redirect(f"/webhooks/{webhook_id}?saved=1")


def _form_page(
    request: Request,
    visit: Visit,
    known: Registration | None,
    fields: Mapping[str, Any],
    errors: tuple[FieldError, ...] = (),
) -> Response:
    return render(
        request,
        "webhook_form.html",
        visit,
        status=422 if errors else 200,
        errors=errors,
        known=known,
        fields=fields,
        types=TYPES,
        all_events=ALL_EVENTS,
        once=new_once(),
    )


def _empty() -> dict[str, Any]:
    return _fields_of(WebhookInput("", ""))


def _fields_of(known: WebhookInput) -> dict[str, Any]:
    return {
        "url": known.url,
        "description": known.description,
        "events": list(known.events),
        "packages": "\n".join(known.packages),
        "dispatches": "\n".join(known.dispatches),
        "fallback_url": known.fallback_url or "",
        "headers": "",
        "fallback_headers": "",
        "max_concurrency": str(known.max_concurrency),
    }


def _kept(form: Form) -> dict[str, Any]:
    """What was typed."""
    return {**{name: form[name] for name in _empty()}, "events": form.all("events")}


def _entered(form: Form, known: Registration | None) -> dict[str, Any]:
    """The input of a form. Headers are never shown: left empty in an edit, they stay. Raises `Invalid`."""
    entered: dict[str, Any] = {
        "url": form["url"],
        "description": form["description"],
        "events": form.all("events") or [ALL_EVENTS],
        "packages": form.lines("packages"),
        "dispatches": form.lines("dispatches"),
        "fallback_url": form["fallback_url"] or None,
        "max_concurrency": form.number("max_concurrency", "maxConcurrency", DEFAULT_MAX_CONCURRENCY),
    }
    for name, label in (("headers", "headers"), ("fallback_headers", "fallbackHeaders")):
        if form[name] or known is None or form[f"no_{name}"]:
            entered[name] = _headers(form.lines(name), label)
    return entered


def _headers(lines: list[str], label: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, sign, value = line.partition(":")
        if not sign:
            raise Invalid(FieldError(label, f"{line[:40]!r} is not a header: write one a line, as in X-Key: value"))
        headers[name.strip()] = value.strip()
    return headers


# -- one webhook -------------------------------------------------------------------------------------------------


@router.get("/webhooks/{webhook_id}")
async def webhook_page(webhook_id: str, request: Request) -> Response:
    """Health in words, what can be done, charts, latest deliveries."""
    visit = await visit_of(request)
    return await _webhook_page(request, visit, webhook_id)


async def _webhook_page(
    request: Request,
    visit: Visit,
    webhook_id: str,
    *,
    secrets: Sequence[str] = (),
    test: DeliveryDetails | None = None,
    problem: str | None = None,
    errors: tuple[FieldError, ...] = (),
) -> Response:
    """The page, with the newest secret last, and the outcome of a test, where an act shows them."""
    services, account_id, now = visit.services, visit.account.id, visit.services.clock.now()
    known = await services.webhooks.find(webhook_id, account_id)
    webhook = known.webhook
    [verdict] = await services.webhook_stats.verdicts([known])
    stats = await services.webhook_stats.stats(webhook_id, 24, account_id)
    streak = (await services.webhook_stats.health(webhook_id, account_id)).failing
    failures = []
    if streak.failures or webhook.status is Status.PAUSED:
        failures = list(await services.webhook_stats.failures(webhook_id, FAILURES_TO_PAUSE, account_id))
    latest = await services.deliveries.list(DeliveryFilter(account_id, webhook_id, limit=10))
    counts = _counts(stats.unfinished)
    p50 = percentile_ms(stats.response_times, 0.5)
    return render(
        request,
        "webhook.html",
        visit,
        status=422 if errors else 200,
        has_secret=bool(secrets),
        here=f"/webhooks/{webhook_id}",
        errors=errors,
        known=known,
        webhook=webhook,
        url=url_for(visit, webhook.url),
        fallback_url=url_for(visit, webhook.fallback_url) if webhook.fallback_url else None,
        verdict=verdict,
        counts=counts,
        streak=streak,
        failures=failures,
        most_failures=FAILURES_TO_PAUSE,
        pause_sentence=await _pause_sentence(visit, known),
        pace=_pace(counts[State.HELD], p50, webhook.max_concurrency),
        latest=latest.rows,
        last=await services.search.last_attempts(latest.rows),
        types=TYPES,
        p50=p50,
        p95=percentile_ms(stats.response_times, 0.95),
        attempts=sum(hour.attempts for hour in stats.hours),
        chart=attempts_chart(stats.hours, now),
        times=times_chart(stats.response_times, now),
        secret=secrets[-1] if secrets else None,
        old_secret=secrets[0] if len(secrets) > 1 else None,
        test=test,
        test_curl=_curl(test),
        problem=problem,
        valid_secrets=webhook.valid_secrets(now),
        query=request.query_params,
    )


def _counts(unfinished: Sequence[StateCount]) -> dict[State, int]:
    counts = {State.WAITING: 0, State.HELD: 0, State.DEAD: 0}
    for one in unfinished:
        counts[one.state] += one.count
    return counts


async def _pause_sentence(visit: Visit, known: Registration) -> str:
    """Why the webhook is paused, and by whom."""
    pause = known.webhook.pause
    if pause is None:
        return ""
    if pause.reason is not PauseReason.MANUAL:
        return f"It was paused {PAUSE_WORDS[pause.reason]}."
    wanted = AuditFilter(visit.account.id, action="webhook.paused", object_id=known.webhook.id)
    entries = (await visit.services.audit.list(wanted, None, 1)).rows
    actor = await actor_name(visit, entries[0].actor) if entries else "a person"
    return f"It was paused by {actor}."


def _pace(held: int, p50: float | None, at_once: int) -> str | None:
    """How long the held deliveries take, by the response times of the last 24 hours."""
    if not held or p50 is None:
        return None
    seconds = max(1, round(held * p50 / 1000 / at_once))
    return f"about {duration(timedelta(seconds=seconds))}, as fast as it was in the last 24 hours"


def _curl(seen: DeliveryDetails | None) -> str | None:
    if seen is None or not seen.attempts:
        return None
    attempt = seen.attempts[-1]
    return curl(attempt.url, attempt.request_headers, seen.body)


@router.get("/webhooks/{webhook_id}/code")
async def code_page(webhook_id: str, request: Request) -> Response:
    """Code that verifies the signature, with the header names of this deployment."""
    visit = await visit_of(request)
    known = await visit.services.webhooks.find(webhook_id, visit.account.id)
    header = site_of(request).signature_header
    return render(request, "code.html", visit, known=known, header=header, samples=samples(header))


@router.post("/webhooks/{webhook_id}/pause")
async def pause(webhook_id: str, request: Request) -> Response:
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    await visit.services.webhooks.pause(webhook_id, by=visit.member.actor, account_id=visit.account.id)
    return redirect(f"/webhooks/{webhook_id}")


@router.post("/webhooks/{webhook_id}/enable")
async def enable(webhook_id: str, request: Request) -> Response:
    """With the choice for held deliveries."""
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    form = await form_of(request)
    if form["held"] not in list(HeldChoice):
        raise Invalid(FieldError("held", "choose what happens to the held deliveries"))
    held = HeldChoice(form["held"])
    await visit.services.webhooks.enable(webhook_id, held, by=visit.member.actor, account_id=visit.account.id)
    return redirect(f"/webhooks/{webhook_id}")


@router.post("/webhooks/{webhook_id}/test")
async def test(webhook_id: str, request: Request) -> Response:
    """Send a test event, and show its outcome in place."""
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    form = await form_of(request)
    try:
        sent = await visit.services.synthetic_events.send(webhook_id, form["type"] or None, visit.account.id)
    except Unavailable as away:
        return await _webhook_page(request, visit, webhook_id, problem=str(away))
    return await _webhook_page(request, visit, webhook_id, test=sent)


@router.post("/webhooks/{webhook_id}/secret")
async def reveal(webhook_id: str, request: Request) -> Response:
    """Show the secret; the audit log says who looked."""
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    secrets = await visit.services.secrets.show_valid(webhook_id, by=visit.member.actor, account_id=visit.account.id)
    return await _webhook_page(request, visit, webhook_id, secrets=secrets)


@router.post("/webhooks/{webhook_id}/secret/rotate")
async def rotate(webhook_id: str, request: Request) -> Response:
    """The first step: a new secret beside the old one."""
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    form = await form_of(request)
    mine = {"by": visit.member.actor, "account_id": visit.account.id}
    try:
        await visit.services.secrets.rotate(webhook_id, form.number("hours", "overlapHours", 24), **mine)
    except Invalid as wrong:
        return await _webhook_page(request, visit, webhook_id, errors=wrong.errors)
    secrets = await visit.services.secrets.show_valid(webhook_id, **mine)
    return await _webhook_page(request, visit, webhook_id, secrets=secrets)


@router.post("/webhooks/{webhook_id}/secret/finish-rotation")
async def finish_rotation(webhook_id: str, request: Request) -> Response:
    """The second step: the old secret ends now."""
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    await visit.services.secrets.finish_rotation(webhook_id, by=visit.member.actor, account_id=visit.account.id)
    return redirect(f"/webhooks/{webhook_id}")


@router.get("/webhooks/{webhook_id}/delete")
async def delete_page(webhook_id: str, request: Request) -> Response:
    """What becomes of its deliveries."""
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    known = await visit.services.webhooks.find(webhook_id, visit.account.id)
    stats = await visit.services.webhook_stats.stats(webhook_id, 1, visit.account.id)
    return render(request, "webhook_delete.html", visit, known=known, counts=_counts(stats.unfinished))


@router.post("/webhooks/{webhook_id}/delete")
async def delete(webhook_id: str, request: Request) -> Response:
    visit = await visit_of(request)
    visit.require(Scope.WEBHOOKS_WRITE)
    await visit.services.webhooks.delete(webhook_id, by=visit.member.actor, account_id=visit.account.id)
    return redirect(with_query("/webhooks", deleted=1))
