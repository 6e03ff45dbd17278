"""The recorder and the delivery log, in memory."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from fakes.clock import FakeClock
from fakes.webhooks import FakeOutbox
from streams.core.accounts.account import AttemptDetails, DeliveryDetails, DeliveryFilter, DeliverySummary
from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.delivery import State, Trigger
from streams.core.deliveries.delivery_state import Batch, DeliveryState, EventKey, RecordedEvent, StateCount
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.deliveries.rendering import render_body
from streams.core.erasures.erasure import ERASED_REASON
from streams.core.errors import RowRefused, Unavailable
from streams.core.events.event import sequence_of
from streams.core.limits import MAX_ATTEMPT_BYTES_SHOWN, MAX_ATTEMPTS_SHOWN
from streams.core.page import Cursor, Page, page_size
from streams.core.webhooks.delivery_options import DEFAULT_OPTIONS, OnGone, Resume
from streams.core.webhooks.health import MAX_FAILURE_AGE, Health, HealthSample
from streams.core.webhooks.probe import next_probe_at
from streams.core.webhooks.webhook import Pause, PauseReason, Registration, Status
from streams.features.webhooks.changes import to_active, with_probe_time


@dataclass
class FakeRecorder:
    """A `Recorder` and `ReplayLookup`: delivery states, attempts and bodies by id, health by webhook.

    It pauses webhooks, as the database does.
    """

    webhooks: FakeOutbox = field(default_factory=FakeOutbox)
    refuses: Callable[[Batch], bool] = lambda batch: False
    away: bool = False
    calls: int = 0
    delivery_states: dict[str, DeliveryState] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    events: dict[EventKey, RecordedEvent] = field(default_factory=dict)
    health: dict[str, Health] = field(default_factory=dict)
    clock: FakeClock = field(default_factory=FakeClock)

    async def record(self, batch: Batch) -> Collection[EventKey]:
        self.calls += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the database is away")
        if self.refuses(batch):
            raise RowRefused("the database refuses this row")
        for attempt in batch.attempts:
            if attempt.id not in self.attempts:
                self.attempts[attempt.id] = attempt
                self._count(attempt, batch.own_network_is_down)
        for key, event in batch.events.items():
            self.events.setdefault(key, event)
        for state in batch.delivery_states:
            known = self.delivery_states.get(state.delivery_id)
            if known is None:
                self.delivery_states[state.delivery_id] = state
            elif state.supersedes(known):
                self.change(state)
        return {key for key, event in batch.events.items() if self.events[key].body != event.body}

    def change(self, state: DeliveryState) -> None:
        """Store a newer state of a delivery; the time of its last change never goes back."""
        known = self.delivery_states[state.delivery_id]
        changed_at = max(known.changed_at, state.changed_at)
        self.delivery_states[state.delivery_id] = state._replace(changed_at=changed_at)

    @property
    def bodies(self) -> dict[EventKey, bytes]:
        return {key: event.body for key, event in self.events.items()}

    async def newest_generation(self, delivery_id: str) -> int | None:
        state = None if self.away else self.delivery_states.get(delivery_id)
        return state.generation if state else None

    def has_body(self, state: DeliveryState) -> bool:
        return (state.account_id, state.event_id) in self.events

    def of(self, webhook_id: str) -> list[DeliveryState]:
        return [state for state in self.delivery_states.values() if state.webhook_id == webhook_id]

    def _count(self, attempt: Attempt, own_network_is_down: bool) -> None:
        registered = self.webhooks.live(attempt.webhook_id)
        if registered is None:
            return
        webhook = registered.webhook
        known = self.health.get(webhook.id)
        before = known if known and known.epoch == webhook.health_epoch else Health(webhook.health_epoch)
        attempted = HealthSample(**{name: getattr(attempt, name) for name in HealthSample._fields})
        self.health[webhook.id] = after = before.with_attempts(
            [attempted],
            pause_after=webhook.options.pause_after,
            counted_since=self.clock.now() - MAX_FAILURE_AGE,
            own_network_is_down=own_network_is_down,
        )
        if webhook.status is not Status.ACTIVE:
            self._end_probe(attempt, registered)
            return
        if after.pause is PauseReason.GONE and webhook.options.on_gone is OnGone.DELETE:
            self.webhooks.remove(webhook.id)
        elif after.pause:
            now, pause = self.clock.now(), Pause("pause_1", after.pause)
            paused = replace(registered, webhook=replace(webhook, status=Status.PAUSED, pause=pause), paused_at=now)
            self.webhooks.put_registration(with_probe_time(paused, now))

    def _end_probe(self, attempt: Attempt, registered: Registration) -> None:
        webhook = registered.webhook
        if (
            webhook.pause is None
            or not webhook.pause.reason.is_automatic
            or attempt.pause_id != webhook.pause.id
            or webhook.options.resume is Resume.MANUAL
        ):
            return
        if attempt.outcome is not OutcomeKind.DELIVERED:
            if registered.paused_at and registered.probe_at and registered.probe_at <= attempt.ended_at:
                self.webhooks.set_probe_at(webhook.id, next_probe_at(registered.paused_at, attempt.ended_at))
        elif attempt.health_epoch == webhook.health_epoch:
            self.webhooks.put_registration(to_active(registered))


@dataclass
class FakeDeliveryStore:
    """A `DeliveryStore` of a `FakeRecorder`."""

    recorder: FakeRecorder

    async def list(self, wanted: DeliveryFilter) -> Page[DeliveryState]:
        found = [state for state in self.recorder.delivery_states.values() if _is_wanted(state, wanted)]
        found.sort(key=_place, reverse=True)
        if wanted.after is not None:
            found = [state for state in found if _place(state) < (wanted.after.at, wanted.after.id)]
        rows = found[: wanted.limit]
        return Page(rows, Cursor(*_place(rows[-1])) if len(found) > wanted.limit else None)

    async def find(self, delivery_id: str) -> DeliveryDetails | None:
        state = self.recorder.delivery_states.get(delivery_id)
        if state is None:
            return None
        event = self.recorder.events.get((state.account_id, state.event_id))
        newest = await self.attempts(delivery_id, None, MAX_ATTEMPTS_SHOWN)
        total = len(_attempts_of(self.recorder, delivery_id))
        known = await self.recorder.webhooks.find(state.webhook_id)
        options = known.webhook.options if known else DEFAULT_OPTIONS
        chosen = newest.rows[0].fields if newest.rows else options.fields
        body = render_body(event.body, chosen) if event else None
        return DeliveryDetails(state, body, newest.rows[::-1], total, newest.next_cursor)

    async def attempts(self, delivery_id: str, after: Cursor | None, limit: int) -> Page[AttemptDetails]:
        found = _attempts_of(self.recorder, delivery_id)
        if after is not None:
            ids = [attempt.id for attempt in found]
            found = found[ids.index(after.id) + 1 :] if after.id in ids else []
        rows = found[: page_size(map(_stored_bytes, found), limit, MAX_ATTEMPT_BYTES_SHOWN)]
        following = Cursor(rows[-1].started_at, rows[-1].id) if len(found) > len(rows) else None
        return Page([_seen(attempt) for attempt in rows], following)

    async def count_states(self) -> Mapping[str, Sequence[StateCount]]:
        alike = Counter((s.webhook_id, s.state, s.tier, s.reason) for s in self.recorder.delivery_states.values())
        state_counts: dict[str, list[StateCount]] = {}
        for (webhook_id, state, tier, reason), how_many in alike.items():
            state_counts.setdefault(webhook_id, []).append(StateCount(state, tier, reason, how_many))
        return state_counts

    async def summary(self, wanted: DeliveryFilter) -> DeliverySummary:
        rows = (await self.list(replace(wanted, limit=10**9))).rows
        seen = [state.first_seen_at for state in rows]
        webhooks = {state.webhook_id for state in rows}
        return DeliverySummary(len(rows), len(webhooks), min(seen, default=None), max(seen, default=None))

    async def sequences(self, account_id: str, event_ids: Sequence[str]) -> Mapping[str, int]:
        events = {name: self.recorder.events.get((account_id, name)) for name in event_ids}
        found = {name: sequence_of(event.body) for name, event in events.items() if event}
        return {name: sequence for name, sequence in found.items() if sequence is not None}

    async def find_existing(self, delivery_ids: Sequence[str]) -> Collection[str]:
        return self.recorder.delivery_states.keys() & set(delivery_ids)

    async def with_outcome(self, delivery_ids: Sequence[str]) -> Collection[str]:
        states = [self.recorder.delivery_states[name] for name in await self.find_existing(delivery_ids)]
        ended = [one for one in states if one.state is not State.WAITING and self.recorder.has_body(one)]
        return {one.delivery_id for one in ended}


def _is_wanted(state: DeliveryState, wanted: DeliveryFilter) -> bool:
    names = ("account_id", "webhook_id", "event_id", "event_type", "state", "reason")
    named = wanted.ids is None or state.delivery_id in wanted.ids
    alike = all(getattr(wanted, name) in (None, getattr(state, name)) for name in names)
    in_time = (
        (wanted.since is None or state.first_seen_at >= wanted.since)
        and (wanted.until is None or state.first_seen_at < wanted.until)
        and (wanted.short_id is None or state.delivery_id.startswith(wanted.short_id))
        and (wanted.changed_until is None or state.changed_at <= wanted.changed_until)
    )
    listed = (
        (wanted.states is None or state.state in wanted.states)
        and (wanted.event_types is None or state.event_type in wanted.event_types)
        and not (wanted.without_tests and (state.trigger is Trigger.TEST or state.reason == ERASED_REASON))
    )
    return named and listed and alike and in_time and (state.tier is not None or not wanted.in_tier)


def _place(state: DeliveryState) -> tuple[datetime, str]:
    return state.first_seen_at, state.delivery_id


def _attempts_of(recorder: FakeRecorder, delivery_id: str) -> list[Attempt]:
    """Newest first."""
    made = [attempt for attempt in recorder.attempts.values() if attempt.delivery_id == delivery_id]
    return sorted(made, key=lambda attempt: (attempt.generation, attempt.number), reverse=True)


def _stored_bytes(attempt: Attempt) -> int:
    headers = json.dumps(dict(attempt.request_headers)) + json.dumps(dict(attempt.response_headers))
    return len(attempt.url + headers + attempt.message) + len(attempt.response_body)


def _seen(attempt: Attempt) -> AttemptDetails:
    alike = {part.name: getattr(attempt, part.name) for part in fields(AttemptDetails) if part.name != "outcome"}
    return AttemptDetails(**alike, outcome=attempt.outcome)
