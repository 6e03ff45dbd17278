"""Store mails, and find the notices that accounts need."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.engine.keyset import read_page
from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.outgoing_events import OutgoingEventWriter
from streams.adapters.sql.tables.accounts import accounts, mails
from streams.adapters.sql.tables.deliveries import IS_NOT_DELIVERED, deliveries, webhooks
from streams.core.accounts.mail import (
    MAX_GROUPED_MAILS,
    MUTED_MESSAGE,
    PAUSE_GROUPING_WINDOW,
    Mail,
    MailKind,
    OtherWebhooks,
)
from streams.core.accounts.notice_event import notice_event
from streams.core.deliveries.delivery import State
from streams.core.errors import ROW_ERRORS
from streams.core.failed_work import FailedRows, put_aside, read_rows
from streams.core.page import Cursor, Page, json_bytes
from streams.core.times import format_time
from streams.features.mails import notices
from streams.ids import new_id
from streams.ports.storage import DueMails

# Notices of one kind about one webhook.
MAX_EVENTS_AN_HOUR = 5
REMINDER_DELAY = timedelta(days=1)
REMINDER_INTERVAL = timedelta(days=7)


class SqlMails:
    """`Mails` in SQL. `event_writer` stores the events of notices."""

    def __init__(self, database: Database, event_writer: OutgoingEventWriter) -> None:
        self._database = database
        self._event_writer = event_writer

    async def list(self, account_id: str, cursor: Cursor | None, limit: int) -> Page[Mail]:
        """The mails, newest first. A page ends early when its rows have more than `MAX_LIST_BYTES`."""
        # Not every user of the account should see who signs in.
        query = select(mails).where(mails.c.account_id == account_id, mails.c.kind != MailKind.SIGN_IN)
        place = mails.c.created_at, mails.c.id
        async with self._database.read_transaction() as connection:
            return await read_page(connection, query, *place, cursor, limit, _to_mail, _response_bytes)

    async def next_due(
        self,
        kind: MailKind,
        last_account: str,
        now: datetime,
        excluded: Collection[str] = (),
        failed_rows: FailedRows = None,
    ) -> DueMails | None:
        """The oldest due mail of the next account after `last_account`, by id. After the last account comes the first.

        The `excluded` ids are left out.

        A notice comes with the account's others of its kind that are due within `PAUSE_GROUPING_WINDOW`.
        """
        query = (
            select(mails, accounts.c.emails)
            .join(accounts, accounts.c.id == mails.c.account_id)
            .where(mails.c.kind == kind, mails.c.due_at <= now, mails.c.account_id > bindparam("after"))
            .order_by(mails.c.account_id, mails.c.due_at, mails.c.id)
            .limit(1)
        )
        if excluded:
            query = query.where(mails.c.id.not_in(excluded))
        async with self._database.read_transaction() as connection:
            row = (await connection.execute(query, {"after": last_account})).first()
            if row is None and last_account:
                row = (await connection.execute(query, {"after": ""})).first()
            if row is None:
                return None
            try:
                first, recipients = _to_mail(row), _recipients(row)
            except ROW_ERRORS as error:
                put_aside(failed_rows, row.id, row.account_id, error)
                return None
            if kind in _UNGROUPED_KINDS:
                return DueMails([first], recipients)
            grouped_mails = await _due_with(connection, first, now, excluded)
            return DueMails(grouped_mails, recipients)

    async def settle(self, settled_mails: Sequence[Mail]) -> None:
        """Store the result of an attempt to send these mails."""
        names = ("tries", "due_at", "sent_at", "problem", "unreached", "others", "sent_with")
        statement = update(mails).where(mails.c.id == bindparam("mail_id"))
        statement = statement.values({name: bindparam(name) for name in names})
        rows = [asdict(mail) for mail in settled_mails]
        async with self._database.transaction() as connection:
            await connection.execute(
                statement, [{"mail_id": row["id"], **{name: row[name] for name in names}} for row in rows]
            )

    async def enqueue_reminders(self, now: datetime, failed_rows: FailedRows = None) -> int:
        """Add a mail for each webhook with dead letters a day old. Returns how many were added."""
        delivery_columns = deliveries.c
        earlier_mails = (
            select(mails.c.webhook_id, func.max(mails.c.created_at).label("mailed_at"))
            .where(mails.c.kind == MailKind.DEAD_LETTERS)
            .group_by(mails.c.webhook_id)
            .subquery()
        )
        webhook_columns = (webhooks.c.id, webhooks.c.account_id, webhooks.c.url, webhooks.c.description)
        reminder_columns = (accounts.c.weekly_digest, earlier_mails.c.mailed_at)
        query = (
            select(
                *webhook_columns,
                *reminder_columns,
                func.min(delivery_columns.changed_at).label("since"),
                func.count().label("how_many"),
            )
            .join(webhooks, webhooks.c.id == delivery_columns.webhook_id)
            .join(accounts, accounts.c.id == webhooks.c.account_id)
            .outerjoin(earlier_mails, earlier_mails.c.webhook_id == webhooks.c.id)
            .where(IS_NOT_DELIVERED, delivery_columns.state == State.DEAD, webhooks.c.deleted_at.is_(None))
            .group_by(*webhook_columns, *reminder_columns)
        )
        rows = await self._database.rows(query)
        needed = read_rows(rows, lambda row: self._reminder(row, now) if _needs_mail(row, now) else None, failed_rows)
        reminders = [reminder for reminder in needed if reminder is not None]
        if not reminders:
            return 0
        try:
            return await self._add(reminders)
        except ROW_ERRORS:
            return sum([await self._try_to_add(reminder, failed_rows) for reminder in reminders])

    async def enqueue_notices(self, now: datetime, failed_rows: FailedRows = None) -> int:
        """Add a mail for each notice that is due now. Returns how many were added."""
        looks: Sequence[tuple[Select[Any], Callable[[datetime, Any], Mail]]] = (
            (notices.select_failing(now), notices.failing_mail),
            (notices.select_still_paused(now), notices.still_paused_mail),
            (notices.select_recovered(), notices.recovered_mail),
            (notices.select_secret_ending(now), notices.secret_ending_mail),
            (notices.select_certificate_ending(now), notices.certificate_ending_mail),
            (notices.select_quota(now), notices.quota_mail),
        )
        added_count = 0
        for query, to_mail in looks:
            rows = await self._database.rows(query)
            found = read_rows(rows, partial(to_mail, now), failed_rows, lambda row: str(row[0]))
            try:
                added_count += await self._add(found) if found else 0
            except ROW_ERRORS:
                added_count += sum([await self._try_to_add(notice, failed_rows) for notice in found])
        return added_count

    async def store_events(self, limit: int, excluded: Collection[str] = (), failed_rows: FailedRows = None) -> int:
        """Store the events of new notices, which `publish` sends. Returns how many notices were handled.

        After several notices of one kind about one webhook, the rest of the hour's notices have no event: failing
        webhooks that take each other's events would otherwise cause more and more.
        """
        query = select(mails).where(mails.c.is_event_due).order_by(mails.c.created_at, mails.c.id).limit(limit)
        if excluded:
            query = query.where(mails.c.id.not_in(excluded))
        handled_count = 0
        for row in await self._database.rows(query):
            try:
                event = notice_event(_to_mail(row))
                async with self._database.transaction() as connection:
                    if event and await _is_repeated(connection, row):
                        event = None
                    await self._event_writer.store(connection, [(event, row.created_at)] if event else [])
                    done = update(mails).where(mails.c.id == row.id).values(is_event_due=False)
                    await connection.execute(done)
                handled_count += 1
            except ROW_ERRORS as error:
                put_aside(failed_rows, row.id, row.account_id, error)
        return handled_count

    async def _try_to_add(self, reminder: Mail, failed_rows: FailedRows) -> int:
        try:
            return await self._add([reminder])
        except ROW_ERRORS as error:
            put_aside(failed_rows, reminder.webhook_id, reminder.account_id, error)
            return 0

    async def _add(self, new_mails: Sequence[Mail]) -> int:
        statement = insert(mails).on_conflict_do_nothing().returning(mails.c.id)
        async with self._database.transaction() as connection:
            rows = [await _notice_row(connection, mail) for mail in new_mails]
            for mail in new_mails:
                if mail.kind is MailKind.RECOVERED:
                    await connection.execute(update(mails).where(_is_open_of(mail)).values(is_open=False))
            return len((await connection.execute(statement, rows)).all())

    def _reminder(self, row: Any, now: datetime) -> Mail:
        is_repeated = row.mailed_at is not None and row.since <= row.mailed_at
        details = {
            "url": row.url or None,
            "description": row.description or None,
            "count": row.how_many,
            "since": format_time(row.since),
            "reminder": is_repeated or None,
        }
        return Mail(
            id=new_id("mail"),
            # The key makes this mail unique, even when two processes insert it.
            key=f"{MailKind.DEAD_LETTERS}/{row.id}/{row.mailed_at.isoformat() if row.mailed_at else 'first'}",
            account_id=row.account_id,
            webhook_id=row.id,
            kind=MailKind.DEAD_LETTERS,
            details={name: value for name, value in details.items() if value is not None},
            created_at=now,
            due_at=now,
        )


# One mail about dead letters names their number; a sign-in link is for one person.
_UNGROUPED_KINDS = (MailKind.DEAD_LETTERS, MailKind.QUOTA, MailKind.SIGN_IN)


def _is_open_of(mail: Mail) -> ColumnElement[bool]:
    # Trouble that began after the query is open.
    return mails.c.is_open & (mails.c.webhook_id == mail.webhook_id) & (mails.c.created_at <= mail.created_at)


async def _notice_row(connection: AsyncConnection, mail: Mail) -> dict[str, Any]:
    """The row of a new notice. One of a kind that the account muted is stored, for its event, and never sent."""
    row = {**asdict(mail), "is_open": mail.kind in notices.TROUBLE_KINDS, "is_event_due": True}
    muted = await connection.scalar(select(accounts.c.muted_mails).where(accounts.c.id == mail.account_id))
    return {**row, "due_at": None, "problem": MUTED_MESSAGE} if mail.kind in (muted or ()) else row


async def _is_repeated(connection: AsyncConnection, row: Any) -> bool:
    """Whether there were enough notices of this kind about this webhook in the hour before this one."""
    is_same = (mails.c.webhook_id == row.webhook_id) & (mails.c.kind == row.kind)
    is_earlier = mails.c.created_at.between(row.created_at - timedelta(hours=1), row.created_at)
    earlier = select(mails.c.id).where(is_same, is_earlier, mails.c.id != row.id).limit(MAX_EVENTS_AN_HOUR)
    return len((await connection.execute(earlier)).all()) == MAX_EVENTS_AN_HOUR


async def _due_with(
    connection: AsyncConnection, first: Mail, now: datetime, excluded: Collection[str]
) -> Sequence[Mail]:
    """The notices of one kind that are sent as one mail, oldest first; their remaining recipients are the same."""
    condition = (mails.c.kind == first.kind) & (mails.c.account_id == first.account_id)
    query = select(mails).where(condition, mails.c.due_at <= now + PAUSE_GROUPING_WINDOW)
    query = query.order_by(mails.c.due_at, mails.c.id).limit(MAX_GROUPED_MAILS)
    # A mail that cannot be read comes first in a turn of its own.
    due_mails = read_rows(await connection.execute(query.where(mails.c.id.not_in(excluded))), _to_mail, [])
    same_recipients = [mail for mail in due_mails if mail.unreached == first.unreached]
    return sorted(same_recipients, key=lambda mail: (mail.created_at, mail.id))


def _recipients(row: Any) -> tuple[str, ...]:
    return (row.details["email"],) if row.kind == MailKind.SIGN_IN else tuple(row.emails)


def _needs_mail(row: Any, now: datetime) -> bool:
    """Dead letters a day old without a mail need one. Older ones need a mail each week, if the account wants that."""
    if row.since > now - REMINDER_DELAY:
        return False
    is_new = row.mailed_at is None or row.since > row.mailed_at
    return is_new or (row.weekly_digest and row.mailed_at <= now - REMINDER_INTERVAL)


def _to_mail(row: Any) -> Mail:
    return to_value(
        Mail,
        row,
        kind=MailKind(row.kind),
        unreached=tuple(row.unreached or ()),
        others=OtherWebhooks(**row.others) if row.others else None,
    )


def _response_bytes(mail: Mail) -> int:
    """An upper limit of the size of a mail: its details are in its subject and in its text."""
    return 2000 + 2 * json_bytes((mail.details, mail.problem, mail.others and mail.others.listed))
