"""One process holds the lease while it renews it."""

from datetime import timedelta

import pytest
from sqlalchemy import Interval, literal, update

from contract.stores import SqlStore, Store
from streams.adapters.sql.tables.deliveries import leases
from streams.adapters.sql.webhooks.outbox import LEASE_SECONDS
from streams.core.errors import Unavailable


async def advance(store: Store, seconds: float) -> None:
    store.clock.advance(seconds)
    if isinstance(store, SqlStore) and not store.database.is_sqlite:
        earlier = leases.c.expires_at - literal(timedelta(seconds=seconds), Interval())
        async with store.database.transaction() as connection:
            await connection.execute(update(leases).values(expires_at=earlier))


async def test_one_publisher_holds_the_lease_until_it_expires(store: Store) -> None:
    first, second = store.lease("first"), store.lease("second")
    assert (await first.renew(), await second.renew(), await first.renew()) == (True, False, True)
    await advance(store, LEASE_SECONDS + 1)
    assert (await second.renew(), await first.renew()) == (True, False)
    await second.release()
    assert await first.renew()


async def test_each_renewal_keeps_the_lease_for_its_whole_time(store: Store) -> None:
    first, second = store.lease("first"), store.lease("second")
    for _ in range(3):
        assert await first.renew()
        await advance(store, LEASE_SECONDS - 1)
        assert not await second.renew()


async def test_a_process_whose_clock_is_ahead_keeps_it_no_longer(store: Store) -> None:
    if not isinstance(store, SqlStore) or store.database.is_sqlite:
        pytest.skip("its processes share one clock")
    first, second = store.lease("first"), store.lease("second")
    store.clock.advance(3600)
    assert await first.renew()
    store.clock.advance(-3600)
    assert not await second.renew()
    await advance(store, LEASE_SECONDS + 1)
    assert await second.renew()


async def test_a_full_pool_does_not_cost_the_lease(store: Store) -> None:
    if not isinstance(store, SqlStore) or store.database.is_sqlite:
        pytest.skip("it has no pool")
    async with store.database.transaction():
        assert await store.lease("first").renew()
        await store.lease("first").release()


async def test_a_process_cannot_release_another_ones_lease(store: Store) -> None:
    first, second = store.lease("first"), store.lease("second")
    await first.renew()
    await second.release()
    assert not await second.renew()


async def test_an_outage_leaves_the_lease_as_it_is(away: Store) -> None:
    lease = away.lease("first")
    with pytest.raises(Unavailable):
        await lease.renew()
    with pytest.raises(Unavailable):
        await lease.release()
