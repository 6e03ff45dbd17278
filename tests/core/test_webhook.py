"""Which events a webhook wants, and which secrets sign for it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NEW_SECRET, NOON, SECRET, ciphertext, event, webhook
from streams.core.deliveries.delivery import SubscriptionsPosition
from streams.core.events.event import Event
from streams.core.events.event_data import EVENT_TYPES
from streams.core.events.event_filter import parse_filter
from streams.core.events.matching import match
from streams.core.webhooks.webhook import (
    ALL_EVENTS,
    MismatchReason,
    Webhook,
    closest_mismatch,
    mismatch_reason,
    takes,
    wants,
)

PACKAGE, DISPATCH = "pkg_def456", "dsp_ghi789"
NEITHER = event(type="usage.threshold", data={"period": "2026-04"})
PACKAGE_ONLY = event(type="package.updated", data={"packageId": PACKAGE, "version": "2"})


@pytest.mark.parametrize(
    ("event_types", "packages", "dispatches", "wanted"),
    [
        ((), (), (), True),
        (("session.completed",), (), (), True),
        (("session.launched",), (), (), False),
        ((), (PACKAGE,), (), True),
        ((), ("pkg_other",), (), False),
        ((), (), (DISPATCH,), True),
        ((), (), ("dsp_other",), False),
        ((), (PACKAGE,), ("dsp_other",), True),
        ((), ("pkg_other",), (DISPATCH,), True),
        ((), ("pkg_other",), ("dsp_other",), False),
        (("session.launched",), (PACKAGE,), (DISPATCH,), False),
    ],
)
def test_an_event_matches_by_type_and_package_or_dispatch(
    event_types: tuple[str, ...], packages: tuple[str, ...], dispatches: tuple[str, ...], wanted: bool
) -> None:
    scoped = webhook(event_types=frozenset(event_types), packages=frozenset(packages), dispatches=frozenset(dispatches))
    assert wants(scoped, event()) is wanted


def test_an_event_without_scope_fields_matches_by_type() -> None:
    scoped = webhook(packages=frozenset({"pkg_other"}), dispatches=frozenset({"dsp_other"}))
    assert wants(scoped, NEITHER)
    assert not wants(replace(scoped, event_types=frozenset({"session.launched"})), NEITHER)


def test_a_dispatch_scope_needs_a_dispatch() -> None:
    assert not wants(webhook(dispatches=frozenset({DISPATCH})), PACKAGE_ONLY)


@pytest.mark.parametrize("changed", [{}, {"packages": frozenset({PACKAGE})}])
def test_an_event_of_another_account_is_never_wanted(changed: dict[str, frozenset[str]]) -> None:
    assert not wants(webhook(account_id="globex", **changed), event())


OTHER_TYPE = frozenset({"session.launched"})
OTHER_PACKAGE = frozenset({"pkg_other"})
FAILED = parse_filter({"successStatus": "failed"})


@pytest.mark.parametrize(
    ("webhooks", "reason"),
    [
        ([], MismatchReason.NO_WEBHOOK),
        ([webhook(account_id="globex")], MismatchReason.NO_WEBHOOK),
        ([webhook(event_types=OTHER_TYPE)], MismatchReason.TYPE),
        ([webhook(event_types=OTHER_TYPE, packages=OTHER_PACKAGE)], MismatchReason.TYPE),
        ([webhook(event_types=frozenset({event().type}), packages=OTHER_PACKAGE)], MismatchReason.SCOPE),
        ([webhook(event_types=OTHER_TYPE), webhook(packages=OTHER_PACKAGE)], MismatchReason.SCOPE),
        ([webhook(filter=FAILED), webhook(packages=OTHER_PACKAGE)], MismatchReason.FILTER),
        ([webhook(packages=OTHER_PACKAGE, filter=FAILED)], MismatchReason.SCOPE),
        ([webhook(filter=FAILED), webhook()], MismatchReason.NEWCOMER),
        # It wants the event: only its late registration can be why it does not get it.
        ([webhook(packages=OTHER_PACKAGE), webhook()], MismatchReason.NEWCOMER),
    ],
)
def test_the_nearest_webhook_says_why_nobody_gets_an_event(webhooks: list[Webhook], reason: MismatchReason) -> None:
    assert closest_mismatch(mismatch_reason(webhook, event()) for webhook in webhooks) is reason


# -- properties ----------------------------------------------------------------------------------------------------

accounts = st.sampled_from(("acme", "globex"))
packages = st.sampled_from(("pkg_1", "pkg_2", "pkg_3"))
dispatches = st.sampled_from(("dsp_1", "dsp_2", "dsp_3"))
types = st.sampled_from(list(EVENT_TYPES))
webhooks = st.builds(
    webhook,
    account_id=accounts,
    event_types=st.frozensets(types, max_size=2),
    packages=st.frozensets(packages, max_size=2),
    dispatches=st.frozensets(dispatches, max_size=2),
)
events = st.builds(
    event,
    account_id=accounts,
    type=types,
    data=st.fixed_dictionaries({}, optional={"packageId": packages, "dispatchId": dispatches}),
)


@given(webhooks, events)
def test_a_webhook_wants_events_of_its_own_account_only(webhook: Webhook, event: Event) -> None:
    assert not wants(webhook, event) or webhook.account_id == event.account_id


@given(webhooks, events)
def test_without_a_scope_the_type_alone_decides(webhook: Webhook, event: Event) -> None:
    unscoped = replace(webhook, account_id=event.account_id, packages=frozenset(), dispatches=frozenset())
    assert wants(unscoped, event) is takes(webhook, event.type)


@given(st.lists(webhooks, max_size=5), events, st.lists(st.booleans(), min_size=5, max_size=5))
def test_each_webhook_that_wants_an_event_gets_a_delivery(
    registered: list[Webhook], event: Event, with_filter: list[bool]
) -> None:
    account = [
        replace(webhook, account_id=event.account_id, filter=FAILED if has_filter else None)
        for webhook, has_filter in zip(registered, with_filter, strict=False)
    ]
    deliveries, reason = match(event, b"{}", account, NOON, SubscriptionsPosition("", 0), None)
    assert [delivery.webhook_id for delivery in deliveries] == [one.id for one in account if wants(one, event)]
    mismatches = [mismatch_reason(webhook, event) for webhook in account]
    assert reason is (None if deliveries else closest_mismatch(mismatches))


def test_a_new_type_reaches_only_webhooks_that_name_it() -> None:
    every, ended = webhook(), event(type="session.ended", account_id=webhook().account_id)
    assert not wants(every, ended)
    assert wants(replace(every, event_types=frozenset({ALL_EVENTS, "session.ended"})), ended)
    assert wants(replace(every, event_types=frozenset({"session.ended"})), ended)
    assert wants(replace(every, event_types=frozenset({ALL_EVENTS, "session.ended"})), event())


@given(webhooks, events, packages, dispatches)
def test_a_wider_scope_wants_all_that_the_narrow_one_does(
    webhook: Webhook, event: Event, package: str, dispatch: str
) -> None:
    if webhook.packages or webhook.dispatches:
        wider = replace(webhook, packages=webhook.packages | {package}, dispatches=webhook.dispatches | {dispatch})
        assert wants(wider, event) >= wants(webhook, event)


# -- secrets -------------------------------------------------------------------------------------------------


def test_both_secrets_are_valid_until_the_overlap_ends() -> None:
    ends_at = NOON + timedelta(hours=24)
    rotating = webhook(secrets=(ciphertext(SECRET, ends_at), ciphertext(NEW_SECRET)))
    assert rotating.valid_secrets(NOON) == rotating.secrets
    assert rotating.valid_secrets(ends_at) == rotating.secrets[1:]
