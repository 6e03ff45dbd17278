"""A shortage of this machine is not the endpoint's failure."""

import asyncio
import errno
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from contract.clusters import until
from real.endpoint import endpoint, silent
from real.posting import answered, at, failed, post, sending
from streams.adapters.lookups import LOOKUPS_AT_ONCE
from streams.core.deliveries.outcome import Failure, OutcomeKind
from streams.core.errors import Unavailable


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Leave this process without a free descriptor: only the three standard ones, open always, are under the limit.

    A limit just above the open ones would not do: one of those may be closed meanwhile, by the garbage collector.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_a_descriptor_the_endpoint_is_not_blamed() -> None:
    async with endpoint() as there, sending() as sender:
        with no_descriptor_left(), pytest.raises(Unavailable, match="Too many open files"):
            await sender.send(post(there))
        assert answered(await sender.send(post(there))).status == 200


async def test_a_look_up_without_a_descriptor_is_ours() -> None:
    async def lookup(host: str) -> Sequence[str]:
        raise OSError(-3, "Temporary failure in name resolution")

    async with endpoint() as there, sending(lookup=lookup) as sender:
        with no_descriptor_left(), pytest.raises(Unavailable, match="no file descriptor"):
            await sender.send(post(there, host="crm.example.com"))
        assert failed(await sender.send(post(there, host="crm.example.com"))).kind is OutcomeKind.DNS


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryError(), RuntimeError("can't start new thread")],
)
async def test_without_memory_or_threads_the_endpoint_is_not_blamed(error: Exception) -> None:
    async def lookup(host: str) -> Sequence[str]:
        raise error

    async with endpoint() as there, sending(lookup=lookup) as sender:
        with pytest.raises(Unavailable):
            await sender.send(post(there, host="crm.example.com"))


async def test_while_the_probe_fails_no_look_up_counts() -> None:
    known, now = {"probe.example.com"}, 0.0

    async def lookup(host: str) -> Sequence[str]:
        if host not in known:
            raise OSError("no such name")
        return ["127.0.0.1"]

    options = {"lookup": lookup, "dns_probe_host": "probe.example.com", "monotonic": lambda: now}
    async with endpoint() as there, sending(**options) as sender:
        gone = post(there, host="gone.example.com")
        assert failed(await sender.send(gone)).kind is OutcomeKind.DNS
        known.clear()
        now += 6
        with pytest.raises(Unavailable, match=r"probe\.example\.com does not resolve either"):
            await sender.send(gone)


async def test_no_more_connections_are_open_than_allowed() -> None:
    async with endpoint(silent) as slow, endpoint() as quick, sending(connections=1) as sender:
        hanging = asyncio.create_task(sender.send(post(slow)))
        await until(lambda: bool(slow.requests))
        with pytest.raises(Unavailable, match="all 1 connections"):
            await sender.send(post(quick))
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        assert answered(await sender.send(post(quick))).status == 200


async def test_a_look_up_that_does_not_begin_is_ours() -> None:
    """Many names of the account have silent name servers: what waits behind them says nothing about its endpoint."""
    asked: list[str] = []

    async def lookup(host: str) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if host == "crm.example.com" else await asyncio.Future()

    async with endpoint() as there, sending(lookup=lookup, timeout_seconds=0.2) as sender:
        requests = [post(there, host=f"{number}.silent.example")._replace(account_id="acc_a") for number in range(100)]
        results = await asyncio.gather(*map(sender.send, requests), return_exceptions=True)
        failures = [result for result in results if isinstance(result, Failure)]
        assert {failure.kind for failure in failures} == {OutcomeKind.DNS}
        assert len(failures) == len(asked) < LOOKUPS_AT_ONCE / 4
        assert all(isinstance(result, Unavailable) for result in results if not isinstance(result, Failure))
        own = post(there, host="crm.example.com")._replace(account_id="acc_a")
        with pytest.raises(Unavailable, match="wait for their name servers"):
            await sender.send(own)
        assert answered(await sender.send(own._replace(account_id="acc_b"))).status == 200
        # Its address is known now.
        assert answered(await sender.send(own)).status == 200


async def test_an_idle_connection_makes_room_for_another_host() -> None:
    async with endpoint() as one, endpoint() as other, sending(connections=1, lookup=at("127.0.0.1")) as sender:
        for there in (one, other, one):
            assert answered(await sender.send(post(there))).status == 200


async def test_a_wrong_probe_blames_no_endpoint() -> None:
    async def lookup(host: str) -> Sequence[str]:
        if host == "crm.example.com":
            return ["127.0.0.1"]
        raise OSError("no such name")

    now = 0.0
    options = {"lookup": lookup, "dns_probe_host": "mistyped.example.com", "monotonic": lambda: now}
    async with endpoint() as there, sending(**options) as sender:
        gone = post(there, host="gone.example.com")
        with pytest.raises(Unavailable):
            await sender.send(gone)
        now += 1
        assert answered(await sender.send(post(there, host="crm.example.com"))).status == 200
        assert failed(await sender.send(gone)).kind is OutcomeKind.DNS
