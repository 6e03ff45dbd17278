"""Tokens are fetched once for many deliveries, renewed in time, and never left out of a request."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from builders import delivery, webhook
from fakes import FakeClock, FakeEncryption, FakeSender, quiet
from stages.test_deliver import CODEC, DeliverFixture
from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.delivery import Target
from streams.core.deliveries.outcome import Failure, OutcomeKind, Response
from streams.core.deliveries.request import MASK, Request
from streams.core.errors import InvalidRecord, Unavailable
from streams.core.webhooks.auth import Auth
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.webhook import Webhook
from streams.ports.kafka import Outgoing
from streams.stages import attempt as attempt_module
from streams.stages.access_tokens import MAX_RENEWALS_OF_ACCOUNT, MIN_FETCH_INTERVAL_SECONDS, AccessTokens
from streams.topics import ATTEMPTS, DELIVERIES

TOKEN_URL = "https://auth.example.com/token"
OAUTH2 = {"type": "oauth2", "tokenUrl": TOKEN_URL, "clientId": "crm"}


def with_auth(auth: Mapping[str, str], **changes: Any) -> Webhook:
    options = parse_options({"auth": auth})
    return webhook(options=options, encrypted_auth_secret="encrypted:s3cr3t", **changes)


class TokensFixture:
    """`AccessTokens` with a token server that numbers its tokens."""

    def __init__(self, life: float = 100.0) -> None:
        self.now = 1000.0
        self.life = life
        self.requests: list[Request] = []
        self.answers: list[Response | Failure] = []
        self.gate: asyncio.Event | None = None
        self.sender = FakeSender(FakeClock())
        self.sender.put(TOKEN_URL, self._answer)
        self.tokens = AccessTokens(self.sender, FakeEncryption(), FakeClock(), lambda: self.now, self._sleep)
        self.webhook = with_auth(OAUTH2)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def _answer(self, request: Request) -> Response | Failure:
        self.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.answers:
            return self.answers.pop(0)
        values = {"access_token": f"token-{len(self.requests)}", "token_type": "bearer", "expires_in": self.life}
        return Response(200, {}, json.dumps(values).encode())

    async def token(self, known: Webhook | None = None) -> str | Failure:
        known = known or self.webhook
        auth = known.options.auth
        assert isinstance(auth, Auth)
        return await self.tokens.token(known, auth, 10.0)


async def test_a_token_is_fetched_once_for_many_deliveries() -> None:
    fixture = TokensFixture()
    fixture.gate = asyncio.Event()
    waiting = [asyncio.create_task(fixture.token()) for _ in range(20)]
    await quiet()
    fixture.gate.set()
    assert {await one for one in waiting} == {"token-1"}
    assert await fixture.token() == "token-1"
    assert len(fixture.requests) == 1


async def test_a_token_is_renewed_while_the_old_one_is_used() -> None:
    fixture = TokensFixture()
    await fixture.token()
    fixture.now += 69
    assert await fixture.token() == "token-1"
    fixture.now += 2
    # It is valid for another 29 seconds, so no delivery waits for the next one.
    assert await fixture.token() == "token-1"
    await quiet()
    assert await fixture.token() == "token-2"
    assert len(fixture.requests) == 2


async def test_a_failed_renewal_is_repeated_after_the_interval() -> None:
    fixture = TokensFixture()
    await fixture.token()
    fixture.now += 71
    fixture.answers = [Response(503, {})]
    for seconds, requests in ((0, 2), (MIN_FETCH_INTERVAL_SECONDS - 0.5, 2), (0.5, 3)):
        fixture.now += seconds
        assert await fixture.token() == "token-1"
        await quiet()
        assert len(fixture.requests) == requests


async def test_a_token_that_has_ended_is_never_used() -> None:
    fixture = TokensFixture()
    await fixture.token()
    fixture.now += 100
    assert await fixture.token() == "token-2"
    fixture.now += 100
    fixture.answers = [Response(503, {})]
    failure = await fixture.token()
    assert isinstance(failure, Failure)
    assert failure.kind is OutcomeKind.TOKEN_UNAVAILABLE


async def test_each_failure_is_a_request_to_the_token_server() -> None:
    """Five deliveries that share one failed request must not pause their webhook."""
    fixture = TokensFixture()
    fixture.answers = [Response(503, {})] * 3
    began = fixture.now
    for number in range(1, 4):
        assert isinstance(await fixture.token(), Failure)
        assert len(fixture.requests) == number
    assert fixture.now - began == 2 * MIN_FETCH_INTERVAL_SECONDS
    assert await fixture.token() == "token-4"


async def test_deliveries_that_wait_share_the_next_request() -> None:
    fixture = TokensFixture()
    fixture.answers = [Response(503, {})]
    assert isinstance(await fixture.token(), Failure)
    assert set(await asyncio.gather(*(fixture.token() for _ in range(20)))) == {"token-2"}
    assert len(fixture.requests) == 2


async def test_other_credentials_get_another_token() -> None:
    fixture = TokensFixture()
    assert await fixture.token() == "token-1"
    assert await fixture.token(with_auth({**OAUTH2, "scope": "more"})) == "token-2"
    assert await fixture.token(with_auth(OAUTH2, id="wh_lrs")) == "token-3"


async def test_a_slow_token_server_is_not_waited_for() -> None:
    fixture = TokensFixture()
    fixture.gate = asyncio.Event()
    auth = fixture.webhook.options.auth
    assert auth is not None
    failure = await fixture.tokens.token(fixture.webhook, auth, 0.01)
    assert isinstance(failure, Failure)
    assert failure.kind is OutcomeKind.TOKEN_UNAVAILABLE
    assert "auth.example.com gave no token" in (failure.message or "")
    fixture.gate.set()
    await quiet()
    assert await fixture.token() == "token-1"
    assert len(fixture.requests) == 1


@pytest.mark.parametrize("status", [400, 401])
async def test_raw_credentials_are_tried_after_encoded_ones(status: int) -> None:
    fixture = TokensFixture()
    fixture.webhook = with_auth({**OAUTH2, "clientId": "crm & co"})
    refused = Response(status, {}, b'{"error": "invalid_client"}')
    fixture.answers = [refused]
    assert await fixture.token() == "token-2"
    sent = [base64.b64decode(one.headers["Authorization"].removeprefix("Basic ")) for one in fixture.requests]
    assert sent == [b"crm+%26+co:s3cr3t", b"crm & co:s3cr3t"]
    fixture.now += 100
    await fixture.token()
    assert fixture.requests[2].headers["Authorization"] == fixture.requests[1].headers["Authorization"]
    # Equal credentials are not tried twice.
    plain = TokensFixture()
    plain.answers = [refused, refused]
    failure = await plain.token()
    assert isinstance(failure, Failure)
    assert failure.kind is OutcomeKind.CREDENTIALS
    assert len(plain.requests) == 1


async def test_accepted_credentials_are_sent_once() -> None:
    fixture = TokensFixture()
    fixture.webhook = with_auth({**OAUTH2, "clientId": "crm & co"})
    assert await fixture.token() == "token-1"
    assert len(fixture.requests) == 1


async def test_a_refused_token_is_forgotten_once() -> None:
    fixture = TokensFixture()
    await fixture.token()
    assert fixture.tokens.reject("wh_crm", "token-1")
    # Several deliveries may have used it, and its webhook may be forgotten meanwhile.
    assert fixture.tokens.reject("wh_crm", "token-1")
    assert fixture.tokens.reject("wh_forgotten", "token-1")
    assert await fixture.token() == "token-2"
    # The endpoint refuses every token: the next one would be refused too.
    assert not fixture.tokens.reject("wh_crm", "token-2")
    # A delivery that used the old one finds the new one.
    assert fixture.tokens.reject("wh_crm", "token-1")
    assert await fixture.token() == "token-2"
    assert len(fixture.requests) == 2


async def test_a_shortage_of_this_machine_is_not_the_servers_fault() -> None:
    fixture = TokensFixture()

    async def short(request: Request) -> Response:
        raise Unavailable("no more open files")

    fixture.sender.put(TOKEN_URL, short)
    with pytest.raises(Unavailable):
        await fixture.token()
    fixture.sender.put(TOKEN_URL, fixture._answer)
    assert await fixture.token() == "token-1"


async def test_a_missing_encryption_key_is_said() -> None:
    fixture = TokensFixture()
    fixture.webhook = with_auth(OAUTH2, id="wh_other")
    with pytest.raises(InvalidRecord):
        await fixture.token(webhook(options=fixture.webhook.options, encrypted_auth_secret="of another key"))


# -- attempts --------------------------------------------------------------------------------------------------


def attempts_of(fixture: DeliverFixture) -> list[Attempt]:
    values = [CODEC.decode(record.value or b"") for record in fixture.kafka.topic(ATTEMPTS)]
    return [value for value in values if isinstance(value, Attempt)]


async def test_http_basic_is_sent_and_masked() -> None:
    fixture = DeliverFixture(with_auth({"type": "basic", "username": "Ada"}))
    await fixture.handle()
    [request] = fixture.sender.requests
    assert base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")) == b"Ada:s3cr3t"
    [attempt] = attempts_of(fixture)
    assert attempt.request_headers["Authorization"] == MASK
    assert "s3cr3t" not in str(attempt)


async def test_a_token_is_masked_even_where_the_endpoint_repeats_it() -> None:
    fixture = DeliverFixture(with_auth(OAUTH2))
    fixture.sender.responses(TOKEN_URL, Response(200, {}, b'{"access_token": "s3cr3t-token", "expires_in": 60}'))
    fixture.sender.responses(webhook().url, Response(200, {"x-seen": "Bearer s3cr3t-token"}, b"s3cr3t-token"))
    await fixture.handle()
    assert fixture.sender.requests[-1].headers["Authorization"] == "Bearer s3cr3t-token"
    [attempt] = attempts_of(fixture)
    assert attempt.outcome is OutcomeKind.DELIVERED
    assert attempt.request_headers["Authorization"] == MASK
    assert "s3cr3t" not in str(attempt._asdict())


async def test_without_a_token_nothing_is_sent() -> None:
    fixture = DeliverFixture(with_auth(OAUTH2))
    fixture.sender.responses(TOKEN_URL, Response(401, {}, b'{"error": "invalid_client"}'))
    await fixture.handle()
    assert {request.url for request in fixture.sender.requests} == {TOKEN_URL}
    [attempt] = attempts_of(fixture)
    assert (attempt.outcome, attempt.request_headers) == (OutcomeKind.CREDENTIALS, {})
    assert "auth.clientSecret" in attempt.message


async def test_after_401_the_request_is_sent_with_a_new_token() -> None:
    fixture = DeliverFixture(with_auth(OAUTH2))
    fixture.sender.responses(
        TOKEN_URL,
        *(Response(200, {}, json.dumps({"access_token": f"token-{n}", "expires_in": 60}).encode()) for n in range(9)),
    )
    await fixture.handle()
    fixture.sender.responses(webhook().url, Response(401, {}), Response(200, {}))
    fixture.record = fixture.kafka.append(Outgoing(DELIVERIES, b"wh_crm", CODEC.encode(delivery(event_id="evt_2"))))
    await fixture.handle()
    sent = [one.headers["Authorization"] for one in fixture.sender.requests if one.url == webhook().url]
    assert sent == ["Bearer token-0", "Bearer token-0", "Bearer token-1"]
    assert [attempt.outcome for attempt in attempts_of(fixture)] == [OutcomeKind.DELIVERED] * 2


async def test_an_endpoint_has_the_time_that_its_token_left(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture, seconds = DeliverFixture(with_auth(OAUTH2)), 0.0
    monkeypatch.setattr(attempt_module, "time", SimpleNamespace(monotonic=lambda: seconds))

    async def slow(request: Request) -> Response:
        nonlocal seconds
        seconds += 2.4
        return Response(200, {}, b'{"access_token": "token", "expires_in": 60}')

    fixture.sender.put(TOKEN_URL, slow)
    await fixture.handle()
    # Of ten seconds.
    assert fixture.sender.requests[-1].timeout_seconds == 7.6


async def test_after_403_no_token_is_renewed() -> None:
    fixture = DeliverFixture(with_auth(OAUTH2))
    fixture.sender.responses(TOKEN_URL, Response(200, {}, b'{"access_token": "token", "expires_in": 60}'))
    fixture.sender.responses(webhook().url, Response(403, {}))
    await fixture.handle()
    assert [request.url for request in fixture.sender.requests] == [TOKEN_URL, webhook().url]


@pytest.mark.parametrize(
    ("fallback_url", "is_sent"), [("https://backup.example.org/", False), ("https://crm.example.com/other", True)]
)
async def test_credentials_do_not_go_to_another_host(fallback_url: str, is_sent: bool) -> None:
    fixture = DeliverFixture(with_auth({"type": "basic", "username": "Ada"}, fallback_url=fallback_url))
    at_fallback = delivery(target=Target.FALLBACK, primary_attempts=1)
    fixture.record = fixture.kafka.append(Outgoing(DELIVERIES, b"wh_crm", CODEC.encode(at_fallback)))
    await fixture.handle()
    [request] = fixture.sender.to(fallback_url)
    assert ("Authorization" in request.headers) is is_sent


async def test_a_secret_is_masked_where_a_response_is_cut() -> None:
    options = with_auth({"type": "basic", "username": "Ada"}).options
    fixture = DeliverFixture(webhook(options=options, encrypted_auth_secret="encrypted:long-s3cr3t"))
    fixture.sender.responses(webhook().url, Response(401, {"x-cut": "long-s3c"}, b"the password long-s3cr3t is wrong"))
    await fixture.handle()
    [attempt] = attempts_of(fixture)
    assert attempt.response_body == f"the password {MASK} is wrong".encode()
    assert attempt.response_headers["x-cut"] == MASK


async def test_a_shortage_after_401_keeps_the_attempt() -> None:
    fixture = DeliverFixture(with_auth(OAUTH2))
    asked: list[Request] = []

    async def answer(request: Request) -> Response:
        asked.append(request)
        if len(asked) > 1:
            raise Unavailable("no more open files")
        return Response(200, {}, b'{"access_token": "token", "expires_in": 60}')

    fixture.sender.put(TOKEN_URL, answer)
    fixture.sender.responses(webhook().url, Response(401, {}))
    await fixture.handle()
    [attempt] = attempts_of(fixture)
    assert (attempt.outcome, attempt.status) == (OutcomeKind.CLIENT_ERROR, 401)


async def test_a_secret_that_no_key_decrypts_fails_one_attempt() -> None:
    known = with_auth({"type": "basic", "username": "Ada"})
    fixture = DeliverFixture(webhook(options=known.options, encrypted_auth_secret="of another key"))
    await fixture.handle()
    assert fixture.sender.requests == []
    assert [attempt.outcome for attempt in attempts_of(fixture)] == [OutcomeKind.UNSENDABLE]


async def test_a_delivery_that_waits_for_its_token_has_no_slot() -> None:
    fixture = DeliverFixture(with_auth(OAUTH2))
    release = fixture.sender.hangs(TOKEN_URL, Response(200, {}, b'{"access_token": "token", "expires_in": 60}'))
    free = fixture.slots.free_count
    handled = asyncio.create_task(fixture.handle())
    await quiet()
    assert [request.url for request in fixture.sender.requests] == [TOKEN_URL]
    assert (fixture.slots.free_count, fixture.slots.slow_count) == (free, 1)
    release.set()
    await handled
    assert (fixture.slots.free_count, fixture.slots.slow_count) == (free, 0)
    # With its token it is a request like any other.
    release = fixture.sender.hangs(webhook().url)
    fixture.record = fixture.kafka.append(Outgoing(DELIVERIES, b"wh_crm", CODEC.encode(delivery(event_id="evt_2"))))
    handled = asyncio.create_task(fixture.handle())
    await quiet()
    assert (fixture.slots.free_count, fixture.slots.slow_count) == (free - 1, 0)
    release.set()
    await handled


async def test_an_account_leaves_renewals_to_others() -> None:
    fixture = TokensFixture()
    known = [with_auth(OAUTH2, id=f"wh_{n}", account_id="acc_a") for n in range(MAX_RENEWALS_OF_ACCOUNT + 5)]
    other = with_auth(OAUTH2, id="wh_other", account_id="acc_b")
    for one in (*known, other):
        await fixture.token(one)
    fixture.gate = asyncio.Event()
    fixture.now += 71
    fixture.requests.clear()
    for one in (*known, *known, other):
        assert isinstance(await fixture.token(one), str)
    await quiet()
    assert Counter(request.account_id for request in fixture.requests) == {
        "acc_a": MAX_RENEWALS_OF_ACCOUNT,
        "acc_b": 1,
    }
    fixture.gate.set()
    await quiet()
    for one in known:
        await fixture.token(one)
    await quiet()
    assert len(fixture.requests) == len(known) + 1
