"""How long a connection is used, and what is sent again on another one."""

import asyncio

import pytest

from real.endpoint import OK, Endpoint, Received, Script, endpoint, leaving, listening, saying, silent
from real.posting import PATIENCE, SOON, answered, failed, post, sending
from streams.adapters.http import idle_connections
from streams.adapters.http.idle_connections import IDLE_SECONDS
from streams.core.deliveries.outcome import Failure, OutcomeKind
from streams.core.deliveries.time_limits import MAX_ATTEMPT_SECONDS


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_connection_is_used_again() -> None:
    async with endpoint() as there, sending() as sender:
        for _ in range(5):
            answered(await sender.send(post(there)))
    assert (there.connections, len(there.requests)) == (1, 5)


@pytest.mark.parametrize("timeout_seconds", [PATIENCE, MAX_ATTEMPT_SECONDS])
async def test_no_attempt_begins_on_an_old_connection(timeout_seconds: float) -> None:
    clock = Clock()
    async with endpoint() as there, sending(monotonic=clock, timeout_seconds=timeout_seconds) as sender:
        answered(await sender.send(post(there)))
        while clock.now < 1050 - 4:
            clock.now += 4
            answered(await sender.send(post(there)))
        clock.now = 1050 - 0.1
        answered(await sender.send(post(there)))
        assert there.connections == 1
        clock.now += 0.1  # with the default timeout, an attempt that begins now may end after the sixtieth second
        answered(await sender.send(post(there)))
        assert there.connections == 2


async def test_a_connection_that_was_idle_too_long_is_closed() -> None:
    clock = Clock()
    async with endpoint() as there, sending(monotonic=clock) as sender:
        answered(await sender.send(post(there)))
        clock.now += IDLE_SECONDS
        answered(await sender.send(post(there)))
        assert there.connections == 2


async def test_surplus_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_connections, "IDLE_SECONDS", 0.05)
    left = asyncio.Barrier(3)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{")
        writer.write(OK)
        await reader.read()
        async with asyncio.timeout(PATIENCE):
            await left.wait()

    async with listening(script) as port, sending() as sender:
        there = Endpoint(silent, port)
        await asyncio.gather(*(sender.send(post(there)) for _ in range(2)))
        async with asyncio.timeout(PATIENCE):
            await left.wait()


async def test_the_connection_used_last_is_used_first() -> None:
    clock = Clock()
    async with endpoint() as there, sending(monotonic=clock) as sender:
        await asyncio.gather(*(sender.send(post(there)) for _ in range(3)))
        clock.now += 3
        answered(await sender.send(post(there)))
        clock.now += 3  # the other two have been idle for too long
        answered(await sender.send(post(there)))
        assert there.connections == 3


async def test_requests_in_flight_outlive_a_change_of_connections() -> None:
    clock = Clock()
    go = asyncio.Event()
    arrived = asyncio.Event()

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.head.startswith(b"POST /slow"):
            arrived.set()
            await go.wait()
        writer.write(OK)

    async with endpoint(script) as there, sending(monotonic=clock) as sender:
        slow = asyncio.create_task(sender.send(post(there, "/slow")))
        await arrived.wait()
        clock.now += 100
        answered(await sender.send(post(there)))
        go.set()
        answered(await slow)


async def test_endpoints_that_close_after_every_answer_never_fail() -> None:
    async with endpoint(saying(OK, close=True)) as there, sending() as sender:
        for _ in range(20):
            answered(await sender.send(post(there)))
    assert len(there.requests) == 20


async def test_a_connection_with_an_early_response_is_not_reused() -> None:
    unread: list[asyncio.StreamWriter] = []

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        unread.append(writer)

    async with listening(early, buffer_bytes=1024) as port, sending() as sender:
        there = Endpoint(silent, port)
        for _ in range(2):
            answered(await sender.send(post(there)._replace(body=bytes(8_000_000))))
    assert len(unread) == 2


class RestartingEndpoint:
    """Responds to the first requests, then closes all of its connections at the next one."""

    def __init__(self, responses: int, then: Script) -> None:
        self.responses = responses
        self.then = then
        self.old: set[asyncio.StreamWriter] = set()
        self.together = asyncio.Barrier(responses)

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if writer in self.old:
            writer.close()
        elif len(self.old) < self.responses:
            self.old.add(writer)
            await self.together.wait()  # so that each has its own connection
            writer.write(OK)
        else:
            await self.then(request, writer)


@pytest.mark.parametrize("idle", [1, 3])
async def test_a_stale_connection_is_not_a_failure(idle: int) -> None:
    async with endpoint(RestartingEndpoint(idle, saying(OK))) as there, sending() as sender:
        await asyncio.gather(*(sender.send(post(there)) for _ in range(idle)))
        assert there.connections == idle
        answered(await sender.send(post(there)))
        # One stale connection was tried, then a new one, and no other idle one.
        assert (there.connections, len(there.requests)) == (idle + 1, idle + 2)
    assert len({request.body for request in there.requests}) == 1


async def test_a_request_is_repeated_once_only() -> None:
    async with endpoint(RestartingEndpoint(1, leaving)) as there, sending() as sender:
        answered(await sender.send(post(there)))
        assert await sender.send(post(there)) == Failure(OutcomeKind.RESET)
    assert len(there.requests) == 3


async def test_a_request_on_a_fresh_connection_is_never_repeated() -> None:
    async with endpoint(leaving) as there, sending() as sender:
        assert await sender.send(post(there)) == Failure(OutcomeKind.RESET)
    assert len(there.requests) == 1


@pytest.mark.parametrize("start", [b"HTTP/1.1 2", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_an_answer_that_had_begun_is_not_asked_for_again(start: bytes) -> None:
    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(start if there.requests[1:] else OK)
        if there.requests[1:]:
            writer.close()

    async with endpoint(script) as there, sending() as sender:
        answered(await sender.send(post(there)))
        assert failed(await sender.send(post(there))).kind is OutcomeKind.RESET
    assert len(there.requests) == 2


async def test_a_repeated_request_has_the_rest_of_the_time() -> None:
    async with endpoint(RestartingEndpoint(1, silent)) as there, sending(timeout_seconds=SOON) as sender:
        answered(await sender.send(post(there)))
        assert await sender.send(post(there)) == Failure(OutcomeKind.TIMEOUT)


async def test_responses_without_a_request_are_dropped() -> None:
    gone = OK.replace(b"200 OK", b"410 Gone")
    async with endpoint(saying(OK + gone)) as there, sending() as sender:
        for _ in range(3):
            assert answered(await sender.send(post(there))).status == 200
    assert there.connections == 3


async def test_a_response_without_a_request_is_dropped() -> None:
    idle: list[asyncio.StreamWriter] = []

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        idle.append(writer)

    async with endpoint(script) as there, endpoint() as other, sending() as sender:
        answered(await sender.send(post(there)))
        idle[0].write(OK.replace(b"200 OK", b"410 Gone"))
        answered(await sender.send(post(other)))  # after a round trip, earlier writes have arrived
        assert answered(await sender.send(post(there))).status == 200


async def test_many_at_a_time() -> None:
    async with endpoint() as there, sending() as sender:
        results = await asyncio.gather(*(sender.send(post(there)) for _ in range(100)))
    assert {answered(result).status for result in results} == {200}
