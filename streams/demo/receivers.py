"""Customers of the demo that run elsewhere: programs that a file names, such as those of `make examples`."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from streams.core.errors import Misconfigured

START_SECONDS = 60.0
FIELDS = ("name", "says", "url", "events", "secretFile")


@dataclass(slots=True)
class OutsideCustomer:
    """One customer's server; it starts when its webhook's secret is in `secret_file`."""

    name: str
    says: str
    url: str
    event_types: Sequence[str]
    secret_file: Path

    async def registered(self, secret: str) -> None:
        """Hand the secret over, and wait until the server listens. Raises `Misconfigured`."""
        unfinished_file = self.secret_file.with_suffix(".unfinished")
        unfinished_file.touch(mode=0o600)
        unfinished_file.write_text(secret)
        unfinished_file.rename(self.secret_file)
        parts = urlsplit(self.url)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
                writer.close()
                return
            await asyncio.sleep(0.1)
        raise Misconfigured(f"--receivers: nothing listens at {self.url}; start {self.name} there")


def read_receivers(path: Path) -> list[OutsideCustomer]:
    """Read a JSON list of objects with the fields `FIELDS`. Raises `Misconfigured`."""
    try:
        rows = json.loads(path.read_text())
        values = [[row[name] for name in FIELDS] for row in rows]
        if not values:
            raise ValueError("the list is empty")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"--receivers: {path} must be a JSON list of objects with {', '.join(FIELDS)} ({error!r})"
        ) from None
    return [OutsideCustomer(name, says, url, events, Path(file)) for name, says, url, events, file in values]
