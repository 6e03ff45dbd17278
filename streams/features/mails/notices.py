"""Find what accounts should be told about their webhooks, in SQL."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, exists, func, literal_column, or_, select

from streams.adapters.sql.tables.accounts import mails
from streams.adapters.sql.tables.deliveries import IS_HELD, deliveries, webhook_health, webhooks
from streams.adapters.sql.tables.usage import usage_notices
from streams.core.accounts.mail import PAUSE_GROUPING_WINDOW, Mail, MailKind
from streams.core.deliveries.delivery import State, Target
from streams.core.deliveries.outcome import CERTIFICATE_ENDING_DELAY
from streams.core.times import format_time
from streams.core.webhooks.webhook import PauseReason, Status
from streams.ids import new_id

FAILING_DELAY = timedelta(minutes=5)
# One failure means little, and without a later attempt the webhook may work again.
MIN_FAILURES = 2
FAILING_PERIOD = timedelta(hours=1)
STILL_PAUSED_DELAY = timedelta(days=1)
SECRET_ENDING_DELAY = timedelta(hours=6)
# An older threshold is not reported any more, such as after a restore.
QUOTA_PERIOD = timedelta(days=2)
# The most notices of one query; the next query finds the others.
MAX_NOTICES = 200
# The kinds that tell of trouble, which a recovery ends.
TROUBLE_KINDS = (MailKind.FAILING, MailKind.PAUSED, MailKind.STILL_PAUSED)

_webhooks = webhooks.c
_is_live = _webhooks.deleted_at.is_(None)
_COLUMNS = (_webhooks.id, _webhooks.account_id, _webhooks.url, _webhooks.description)


def _select_without_notice(query: Select[Any], kind: MailKind, since: Any) -> Select[Any]:
    """Leave out webhooks that have had a mail of this kind since then."""
    has_notice = exists().where(mails.c.webhook_id == _webhooks.id, mails.c.kind == kind, mails.c.created_at >= since)
    return query.where(_is_live, ~has_notice).limit(MAX_NOTICES)


def select_failing(now: datetime) -> Select[Any]:
    """Active webhooks that began to fail five minutes ago and still do, once for each failure streak."""
    health = webhook_health.c
    query = (
        select(*_COLUMNS, health.failures, health.first_failed_at, health.last_failed_at, health.last_status)
        .join(webhooks, _webhooks.id == health.webhook_id)
        .where(health.failures >= MIN_FAILURES, health.first_failed_at <= now - FAILING_DELAY)
        .where(health.failures > literal_column("0"), health.last_failed_at > now - FAILING_PERIOD)
        .where(health.epoch == _webhooks.health_epoch, _webhooks.status == Status.ACTIVE)
    )
    return _select_without_notice(query, MailKind.FAILING, health.first_failed_at)


def select_still_paused(now: datetime) -> Select[Any]:
    """Webhooks that have been paused automatically for a day, once for each pause."""
    held = select(func.count()).where(deliveries.c.webhook_id == _webhooks.id, IS_HELD)
    query = (
        select(*_COLUMNS, _webhooks.pause_id, _webhooks.pause_reason, _webhooks.paused_at, _webhooks.probe_at)
        .add_columns(held.scalar_subquery().label("held"))
        .where(_webhooks.status == Status.PAUSED, _webhooks.pause_reason != PauseReason.MANUAL)
        .where(_webhooks.paused_at <= now - STILL_PAUSED_DELAY)
    )
    return _select_without_notice(query, MailKind.STILL_PAUSED, _webhooks.paused_at)


def select_secret_ending(now: datetime) -> Select[Any]:
    """Webhooks whose old secret expires within six hours; each at most once in that time."""
    is_soon = _webhooks.old_secret_until.between(now, now + SECRET_ENDING_DELAY)
    query = select(*_COLUMNS, _webhooks.old_secret_until).where(is_soon)
    return _select_without_notice(query, MailKind.SECRET_ENDING, now - SECRET_ENDING_DELAY)


def select_certificate_ending(now: datetime) -> Select[Any]:
    """Webhooks whose endpoint's certificate expires within two weeks, once."""
    is_soon = _webhooks.certificate_ends_at.between(now, now + CERTIFICATE_ENDING_DELAY)
    # A pull webhook has no endpoint any more.
    query = select(*_COLUMNS, _webhooks.certificate_ends_at).where(is_soon, _webhooks.url != "")
    return _select_without_notice(query, MailKind.CERTIFICATE_ENDING, now - CERTIFICATE_ENDING_DELAY)


def select_recovered() -> Select[Any]:
    """Active webhooks after a notice of trouble that have taken a newer event, without a failure since."""
    trouble, health = mails.alias("trouble").c, webhook_health.c
    is_healthy = or_(health.webhook_id.is_(None), health.failures == 0, health.epoch != _webhooks.health_epoch)
    # Not through the fallback URL, and no event that was already on its way.
    delivered_since = exists().where(
        deliveries.c.webhook_id == trouble.webhook_id,
        deliveries.c.first_seen_at > trouble.created_at,
        deliveries.c.state == State.DELIVERED,
        deliveries.c.target == Target.PRIMARY,
    )
    return (
        select(*_COLUMNS, func.min(trouble.created_at).label("since"), func.max(trouble.id).label("trouble_id"))
        .join(webhooks, _webhooks.id == trouble.webhook_id)
        .outerjoin(webhook_health, health.webhook_id == _webhooks.id)
        .where(trouble.is_open, _is_live, _webhooks.status == Status.ACTIVE, is_healthy, delivered_since)
        .group_by(*_COLUMNS)
        .limit(MAX_NOTICES)
    )


def select_quota(now: datetime) -> Select[Any]:
    """Thresholds of plans that launches have reached, each once."""
    reached = usage_notices.c
    has_notice = exists().where(
        mails.c.account_id == reached.account_id, mails.c.kind == MailKind.QUOTA, mails.c.created_at >= reached.at
    )
    return select(usage_notices).where(reached.at >= now - QUOTA_PERIOD, ~has_notice).limit(MAX_NOTICES)


def failing_mail(now: datetime, row: Any) -> Mail:
    return _build_mail(
        MailKind.FAILING,
        row,
        row.first_failed_at.isoformat(),
        now,
        failures=row.failures,
        since=format_time(row.first_failed_at),
        lastAt=format_time(row.last_failed_at),
        lastStatus=row.last_status,
    )


def still_paused_mail(now: datetime, row: Any) -> Mail:
    return _build_mail(
        MailKind.STILL_PAUSED,
        row,
        row.pause_id,
        now,
        reason=row.pause_reason,
        pausedAt=format_time(row.paused_at),
        probeAt=format_time(row.probe_at) if row.probe_at else None,
        held=row.held,
    )


def secret_ending_mail(now: datetime, row: Any) -> Mail:
    until = row.old_secret_until
    return _build_mail(MailKind.SECRET_ENDING, row, until.isoformat(), now, until=format_time(until))


def certificate_ending_mail(now: datetime, row: Any) -> Mail:
    until = row.certificate_ends_at
    return _build_mail(MailKind.CERTIFICATE_ENDING, row, until.isoformat(), now, until=format_time(until))


def recovered_mail(now: datetime, row: Any) -> Mail:
    return _build_mail(MailKind.RECOVERED, row, row.trouble_id, now, since=format_time(row.since))


def quota_mail(now: datetime, row: Any) -> Mail:
    return Mail(
        id=new_id("mail"),
        key=f"{MailKind.QUOTA}/{row.account_id}/{row.month}/{row.percent}",
        account_id=row.account_id,
        webhook_id="",
        kind=MailKind.QUOTA,
        details={"month": row.month, "percent": row.percent, "launches": row.launches, "limit": row.plan_limit},
        created_at=now,
        due_at=now + PAUSE_GROUPING_WINDOW,
    )


def _build_mail(kind: MailKind, row: Any, cause: str, now: datetime, **details: Any) -> Mail:
    """A notice. `cause` makes it unique among those of its kind and webhook."""
    details = {"url": row.url or None, "description": row.description or None, **details}
    return Mail(
        id=new_id("mail"),
        key=f"{kind}/{row.id}/{cause}",
        account_id=row.account_id,
        webhook_id=row.id,
        kind=kind,
        details={name: value for name, value in details.items() if value is not None},
        created_at=now,
        due_at=now + PAUSE_GROUPING_WINDOW,
    )
