"""Pages of webhooks: the list, and one webhook with the actions on it."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from fastapi import APIRouter
from starlette.responses import Response

from api.admission import in_class
from api.paging import cursor_of
from api.shell.forms import SentForm, with_query
from api.shell.page_route import PageRoute
from api.shell.rendering import format_duration, redirect, render
from api.shell.rows import actor_name, actor_names
from api.shell.visits import MayWriteWebhooks, SignedIn, Visit, site_of
from api.webhooks.charts import attempts_chart, times_chart
from api.webhooks.code_samples import curl, samples
from api.webhooks.form import TYPE_DESCRIPTIONS
from api.webhooks.option_fields import option_facts
from api.webhooks.page_notes import example_bodies, note_of, preview_of_test, unresolved_host
from streams.core.accounts.access import Scope
from streams.core.accounts.account import DeliveryDetails, DeliveryFilter
from streams.core.accounts.audit import AuditEntry, AuditFilter
from streams.core.deliveries.delivery import HoldReason, State
from streams.core.deliveries.delivery_state import StateCount
from streams.core.deliveries.held import HeldChoice
from streams.core.errors import Conflict, FieldError, Invalid, Unavailable
from streams.core.queues.rate import seconds_to_send
from streams.core.queues.request_class import RequestClass
from streams.core.times import format_time
from streams.core.webhooks.webhook import (
    DeliveryMode,
    PauseReason,
    Registration,
    Status,
    Webhook,
    pause_cause,
    to_entered_types,
)
from streams.core.webhooks.webhook_stats import percentile_ms, slowest_by_hour, slowest_response_ms
from streams.features.webhooks.verdict import progress_to_pause, verdict

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PAGE_ROWS = 50
MAX_FAILURES_SHOWN = 5


@router.get("/webhooks")
async def webhooks_page(visit: SignedIn, after: str | None = None) -> Response:
    """The list, newest first."""
    page = await visit.services.webhooks.page(visit.account.id, cursor_of(after), PAGE_ROWS)
    verdicts = await visit.services.webhook_stats.verdicts(page.rows)
    pairs = list(zip(page.rows, verdicts, strict=True))
    return render(visit, "webhooks.html", webhooks=pairs, next=page.next_cursor, after=after)


@router.get("/webhooks/{webhook_id}")
async def webhook_page(webhook_id: str, visit: SignedIn) -> Response:
    """Health in words, possible actions, charts, latest deliveries."""
    return await _webhook_page(visit, webhook_id)


async def _webhook_page(
    visit: Visit,
    webhook_id: str,
    *,
    secrets: Sequence[str] = (),
    rotated: bool = False,
    test: DeliveryDetails | None = None,
    problem: str | None = None,
    errors: tuple[FieldError, ...] = (),
) -> Response:
    """The page; after some actions with the newest secret last, and with the outcome of a test."""
    services, account_id, now = visit.services, visit.account.id, visit.services.clock.now()
    registration = await services.webhooks.find(webhook_id, account_id)
    webhook = registration.webhook
    stats = await services.webhook_stats.stats(registration)
    failure_streak = stats.failure_streak
    failures = []
    if failure_streak.failures or webhook.status is Status.PAUSED:
        failures = list(await services.webhook_stats.failures(registration, MAX_FAILURES_SHOWN))
    latest = await services.deliveries.list(DeliveryFilter(account_id, webhook_id, limit=10))
    counts = _counts(stats.unfinished)
    steps = bool(visit.query["new"]) and visit.may(Scope.WEBHOOKS_WRITE)
    slowest_ms = slowest_response_ms(stats.hours)
    csv_path = f"/webhooks/{webhook_id}/deliveries.csv"
    p50 = percentile_ms(stats.response_times, 0.5, slowest_ms)
    site = site_of(visit.request)
    # Without a test: a form that was sent has no `type` in its URL.
    preview = preview_of_test(webhook, visit.query["type"]) if "type" in visit.request.query_params else None
    return render(
        visit,
        "webhook.html",
        has_secret=bool(secrets),
        return_path=f"/webhooks/{webhook_id}",
        errors=errors,
        registration=registration,
        note=note_of(visit, webhook),
        unresolved=unresolved_host(visit, webhook),
        steps=steps,
        examples=example_bodies(webhook, now) if steps else {},
        webhook=webhook,
        events=to_entered_types(webhook.event_types),
        verdict=verdict(registration.listed_webhook, stats.summary),
        counts=counts,
        for_readers=_count_for_readers(stats.unfinished),
        is_pull=webhook.delivery is DeliveryMode.PULL,
        api_url=f"{site.origin or str(visit.request.base_url).rstrip('/')}/v1/webhooks/{webhook_id}",
        streak=failure_streak,
        failures=failures,
        pause_after=webhook.options.pause_after,
        progress_to_pause=progress_to_pause(failure_streak.failures, webhook.options.pause_after),
        option_facts=option_facts(webhook, site.attempt_seconds, site.retry_waits),
        attempt_seconds=webhook.options.timeout_seconds or site.attempt_seconds,
        says_pauses=all(paused_webhook.id == webhook_id for paused_webhook, _ in visit.paused),
        pause_sentence=await _pause_sentence(visit, registration),
        was_enabled=await _was_enabled(visit, webhook),
        release_estimate=_release_estimate(counts[State.HELD], p50, webhook),
        latest=latest.rows,
        last=await services.search.last_attempts(latest.rows),
        types=TYPE_DESCRIPTIONS,
        p50=p50,
        p95=percentile_ms(stats.response_times, 0.95, slowest_ms),
        attempts=sum(hour.attempts for hour in stats.hours),
        chart=attempts_chart(stats.hours, now),
        times=times_chart(stats.response_times, slowest_by_hour(stats.hours), now),
        secret=secrets[-1] if secrets else None,
        old_secret=secrets[0] if len(secrets) > 1 else None,
        rotated=rotated,
        test=test,
        preview=preview,
        test_curl=_curl(test),
        problem=problem,
        valid_secrets=webhook.valid_secrets(now),
        downloads={label: with_query(csv_path, since=since) for label, since in _csv_spans(now).items()},
    )


def _csv_spans(now: datetime) -> dict[str, str | None]:
    """The periods of a download, each with its beginning."""
    return {
        "last 24 hours": format_time(now - timedelta(hours=24)),
        "last 7 days": format_time(now - timedelta(days=7)),
        "all": None,
    }


def _counts(state_counts: Sequence[StateCount]) -> dict[State, int]:
    counts = {State.WAITING: 0, State.HELD: 0, State.DEAD: 0}
    for state_count in state_counts:
        counts[state_count.state] += state_count.count
    return counts


def _count_for_readers(state_counts: Sequence[StateCount]) -> int:
    """The deliveries that wait until a reader acknowledges them."""
    return sum(
        state_count.count
        for state_count in state_counts
        if (state_count.state, state_count.reason) == (State.HELD, HoldReason.PULL)
    )


async def _pause_sentence(visit: Visit, registration: Registration) -> str:
    """Why the webhook is paused, and by whom."""
    pause = registration.webhook.pause
    if pause is None:
        return ""
    if pause.reason is not PauseReason.MANUAL:
        return f"It was paused {pause_cause(pause.reason, registration.webhook.options.pause_after)}."
    last = await _last_entry(visit, "webhook.paused", registration.webhook)
    actor = actor_name(last.actor, await actor_names(visit)) if last else "a person"
    return f"It was paused by {actor}."


async def _was_enabled(visit: Visit, webhook: Webhook) -> bool:
    """Whether the webhook is paused for its failures, and was enabled before."""
    if webhook.pause is None or webhook.pause.reason is not PauseReason.FAILURES:
        return False
    return await _last_entry(visit, "webhook.enabled", webhook) is not None


async def _last_entry(visit: Visit, action: str, webhook: Webhook) -> AuditEntry | None:
    audit_filter = AuditFilter(visit.account.id, action=action, object_id=webhook.id)
    return next(iter((await visit.services.audit.list(audit_filter, None, 1)).rows), None)


def _release_estimate(held_count: int, p50: float | None, webhook: Webhook) -> str | None:
    """How long the held deliveries will take, based on the response times of the last 24 hours."""
    if not held_count or p50 is None or webhook.delivery is DeliveryMode.PULL:
        return None
    per_second = webhook.options.rate_per_second or math.inf
    seconds = max(1, round(seconds_to_send(held_count, per_second, webhook.max_concurrency, p50)))
    return f"about {format_duration(timedelta(seconds=seconds))}, as fast as it was in the last 24 hours"


def _curl(details: DeliveryDetails | None) -> str | None:
    if details is None or not details.attempts:
        return None
    attempt = details.attempts[-1]
    if not attempt.request_headers:
        return None  # no request was sent
    return curl(attempt.url, attempt.request_headers, details.body)


@router.get("/webhooks/{webhook_id}/code")
async def sample_code_page(webhook_id: str, visit: SignedIn) -> Response:
    """Code that verifies the signature, with the header names of this deployment."""
    registration = await visit.services.webhooks.find(webhook_id, visit.account.id)
    header = site_of(visit.request).signature_header
    return render(visit, "code.html", registration=registration, header=header, samples=samples(header))


@router.post("/webhooks/{webhook_id}/pause")
async def pause(webhook_id: str, visit: MayWriteWebhooks) -> Response:
    await visit.services.webhooks.pause(webhook_id, actor=visit.actor, account_id=visit.account.id)
    return redirect(f"/webhooks/{webhook_id}?done=paused")


@router.post("/webhooks/{webhook_id}/enable")
async def enable(webhook_id: str, visit: MayWriteWebhooks, form: SentForm) -> Response:
    """Enable the webhook, with the choice for held deliveries."""
    if form["held"] not in list(HeldChoice):
        raise Invalid(FieldError("held", "choose what happens to the held deliveries"))
    choice = HeldChoice(form["held"])
    await visit.services.webhooks.enable(webhook_id, choice, actor=visit.actor, account_id=visit.account.id)
    return redirect(f"/webhooks/{webhook_id}?done={choice}")


@router.post("/webhooks/{webhook_id}/test")
@in_class(RequestClass.WAITING)
async def test(webhook_id: str, visit: MayWriteWebhooks, form: SentForm) -> Response:
    """Send a test event, and show its outcome in place."""
    try:
        details = await visit.services.synthetic_events.send(webhook_id, form["type"] or None, visit.account.id)
    except (Conflict, Unavailable) as error:
        return await _webhook_page(visit, webhook_id, problem=str(error))
    return await _webhook_page(visit, webhook_id, test=details)


@router.post("/webhooks/{webhook_id}/secret")
async def reveal(webhook_id: str, visit: MayWriteWebhooks) -> Response:
    """Show the secret; the audit log records who looked."""
    secrets = await visit.services.secrets.show_valid(webhook_id, actor=visit.actor, account_id=visit.account.id)
    return await _webhook_page(visit, webhook_id, secrets=secrets)


@router.post("/webhooks/{webhook_id}/secret/rotate")
async def rotate(webhook_id: str, visit: MayWriteWebhooks, form: SentForm) -> Response:
    """The first step: a new secret in addition to the old one."""
    caller = {"actor": visit.actor, "account_id": visit.account.id}
    try:
        await visit.services.secrets.rotate(webhook_id, form.number("hours", "overlapHours", 24), **caller)
    except Invalid as error:
        return await _webhook_page(visit, webhook_id, errors=error.errors)
    secrets = await visit.services.secrets.show_valid(webhook_id, **caller)
    return await _webhook_page(visit, webhook_id, secrets=secrets, rotated=True)


@router.post("/webhooks/{webhook_id}/secret/finish-rotation")
async def finish_rotation(webhook_id: str, visit: MayWriteWebhooks) -> Response:
    """The second step: the old secret ends now."""
    await visit.services.secrets.finish_rotation(webhook_id, actor=visit.actor, account_id=visit.account.id)
    return redirect(f"/webhooks/{webhook_id}?done=rotation-finished")


@router.get("/webhooks/{webhook_id}/delete")
async def delete_page(webhook_id: str, visit: MayWriteWebhooks) -> Response:
    """Ask before the deletion, with its effect on the webhook's deliveries."""
    registration = await visit.services.webhooks.find(webhook_id, visit.account.id)
    stats = await visit.services.webhook_stats.stats(registration, 1)
    return render(visit, "webhook_delete.html", registration=registration, counts=_counts(stats.unfinished))


@router.post("/webhooks/{webhook_id}/delete")
async def delete(webhook_id: str, visit: MayWriteWebhooks) -> Response:
    await visit.services.webhooks.delete(webhook_id, actor=visit.actor, account_id=visit.account.id)
    return redirect(with_query("/webhooks", deleted=1))
