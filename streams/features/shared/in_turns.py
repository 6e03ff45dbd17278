"""Iterate over many records without blocking the process's other work."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from streams.ports.kafka import Record

RECORDS_PER_TURN = 50


async def iterate_cooperatively(records: Iterable[Record]) -> AsyncIterator[Record]:
    """Yield records. Other work of the process gets its turn after each portion."""
    for count, record in enumerate(records, 1):
        yield record
        if count % RECORDS_PER_TURN == 0:
            await asyncio.sleep(0)
