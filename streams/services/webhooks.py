"""Register, pause, enable and delete webhooks; each is answered when the change is on the topic."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from streams.core.errors import FieldError, Invalid, NotFound
from streams.core.event_data import EVENT_TYPES
from streams.core.held import HeldChoice
from streams.core.ids import ID_WORDS, is_id
from streams.core.signing import SECRET_BYTES, make_secret
from streams.core.url import url_errors
from streams.core.webhook import (
    DEFAULT_MAX_CONCURRENCY,
    Pause,
    PauseReason,
    Registration,
    SealedSecret,
    Status,
    Webhook,
)
from streams.ports import Accounts, Clock, Propagation, Sealer, Webhooks

ALL_EVENTS = "*"
PROPAGATION_SECONDS = 2.0
ASK_EVERY_SECONDS = 0.02
MAX_CONCURRENCY = 256
MAX_HEADERS = 10
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_OURS = frozenset({"host", "transfer-encoding", "connection", "user-agent", "te", "trailer", "upgrade", "traceparent"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for when registering a webhook; `events` holds types, or `*` for all."""

    account_id: str
    url: str
    events: Sequence[str] = (ALL_EVENTS,)
    description: str = ""
    packages: Sequence[str] = ()
    dispatches: Sequence[str] = ()
    fallback_url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY


@dataclass(frozen=True, slots=True)
class Changed:
    """A webhook as it is now; `propagated` says whether the stages are told already."""

    registration: Registration
    propagated: bool


@dataclass(frozen=True, slots=True)
class Registered:
    """A new webhook with its signing secret."""

    changed: Changed
    secret: str


class WebhookService:
    """`new_id` mints ids by their prefix, `new_key` gives that many random bytes."""

    def __init__(
        self,
        webhooks: Webhooks,
        accounts: Accounts,
        propagation: Propagation,
        sealer: Sealer,
        clock: Clock,
        new_id: Callable[[str], str],
        new_key: Callable[[int], bytes],
        allow_http: bool = False,
    ) -> None:
        self._webhooks = webhooks
        self._accounts = accounts
        self._propagation = propagation
        self._sealer = sealer
        self._clock = clock
        self._new_id = new_id
        self._new_key = new_key
        self._allow_http = allow_http

    async def register(self, wish: Wish) -> Registered:
        """A new, active webhook. Raises `Invalid` naming each field, `NotFound` for an unknown account."""
        if errors := wish_errors(wish, self._allow_http):
            raise Invalid(*errors)
        if await self._accounts.find(wish.account_id) is None:
            raise NotFound(f"there is no account {wish.account_id}")
        secret = make_secret(self._new_key(SECRET_BYTES))
        types = frozenset() if ALL_EVENTS in wish.events else frozenset(wish.events)
        webhook = Webhook(
            id=self._new_id("wh"),
            account_id=wish.account_id,
            url=wish.url,
            secrets=(SealedSecret(self._sealer.seal(secret)),),
            event_types=types,
            packages=frozenset(wish.packages),
            dispatches=frozenset(wish.dispatches),
            fallback_url=wish.fallback_url,
            sealed_headers=self._sealer.seal(json.dumps(dict(wish.headers))) if wish.headers else None,
            max_concurrency=wish.max_concurrency,
        )
        registration = await self._webhooks.add(Registration(webhook, self._clock.now(), wish.description))
        return Registered(await self._changed(registration), secret)

    async def list(self, account_id: str | None = None) -> Sequence[Registration]:
        return await self._webhooks.list(account_id)

    async def pause(self, webhook_id: str) -> Changed:
        """No request leaves any more; what is owed is held. A second time changes nothing."""
        now = self._clock.now()
        pause = Pause(self._new_id("pause"), PauseReason.MANUAL)

        def paused(known: Registration) -> Registration:
            if known.webhook.status is Status.PAUSED:
                return known
            return replace(known, webhook=replace(known.webhook, status=Status.PAUSED, pause=pause), paused_at=now)

        return await self._change(webhook_id, paused)

    async def enable(self, webhook_id: str, held: HeldChoice = HeldChoice.DELIVER) -> Changed:
        """Requests leave again, with health counted anew; `held` is what becomes of what the pause holds.

        A second time changes nothing.
        """

        def enabled(known: Registration) -> Registration:
            webhook = known.webhook
            if webhook.status is Status.ACTIVE:
                return known
            awake = replace(webhook, status=Status.ACTIVE, pause=None, health_epoch=webhook.health_epoch + 1)
            return replace(known, webhook=awake, paused_at=None)

        return await self._change(webhook_id, enabled, held)

    async def delete(self, webhook_id: str) -> Changed:
        """It gets no event any more; what it was still owed becomes dead letters."""
        return await self._change(webhook_id, lambda known: None)

    async def _change(
        self,
        webhook_id: str,
        change: Callable[[Registration], Registration | None],
        held: HeldChoice = HeldChoice.DELIVER,
    ) -> Changed:
        registration = await self._webhooks.change(webhook_id, change, held)
        if registration is None:
            raise NotFound(f"there is no webhook {webhook_id}")
        return await self._changed(registration)

    async def _changed(self, registration: Registration) -> Changed:
        try:
            async with asyncio.timeout(PROPAGATION_SECONDS):
                while not await self._propagation.is_published(registration.webhook.id):
                    await asyncio.sleep(ASK_EVERY_SECONDS)
        except TimeoutError:
            return Changed(registration, propagated=False)
        return Changed(registration, propagated=True)


def wish_errors(wish: Wish, allow_http: bool = False) -> list[FieldError]:
    """What is wrong with a registration, field by field."""
    errors = url_errors("url", wish.url, allow_http=allow_http)
    if wish.fallback_url is not None:
        errors += url_errors("fallbackUrl", wish.fallback_url, allow_http=allow_http)
        if wish.fallback_url == wish.url:
            errors.append(FieldError("fallbackUrl", "must be another URL than url"))
    if not wish.events:
        errors.append(FieldError("events", f"must name event types, or {ALL_EVENTS} for all"))
    known = ", ".join(EVENT_TYPES)
    errors += [
        FieldError("events", f"{name!r} is no event type; there are {known} and {ALL_EVENTS}")
        for name in wish.events
        if name != ALL_EVENTS and name not in EVENT_TYPES
    ]
    errors += [
        FieldError(scope, f"{value!r} is no id: {ID_WORDS}")
        for scope, values in (("packages", wish.packages), ("dispatches", wish.dispatches))
        for value in values
        if not is_id(value)
    ]
    if not 1 <= wish.max_concurrency <= MAX_CONCURRENCY:
        errors.append(FieldError("maxConcurrency", f"must be from 1 to {MAX_CONCURRENCY}"))
    return errors + header_errors(wish.headers)


def header_errors(headers: Mapping[str, str]) -> list[FieldError]:
    """What is wrong with a customer's own headers (RFC 9110 §5): ours cannot be replaced."""
    errors = [FieldError("headers", f"at most {MAX_HEADERS} headers")] if len(headers) > MAX_HEADERS else []
    for name, value in headers.items():
        lower = name.lower()
        if not name or not set(lower) <= _TOKEN:
            errors.append(FieldError("headers", f"{name!r} is no header name"))
        elif lower in _OURS or lower.startswith(("content-", "webhook-")) or "-signature" in lower:
            errors.append(FieldError("headers", f"{name} is a header that we set"))
        if not all(" " <= character <= "~" for character in value) or len(value) > 1024:
            errors.append(
                FieldError("headers", f"the value of {name!r} must be printable ASCII, at most 1024 characters")
            )
    return errors
