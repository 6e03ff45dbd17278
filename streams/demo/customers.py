"""The customers of the demo: one is healthy, one fails at first, one hangs, one refuses some events."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from streams.core.webhooks.webhook import ALL_EVENTS

Event = dict[str, Any]
Response = Callable[["Customer", Event], Awaitable[int]]


@dataclass(slots=True)
class Customer:
    """One customer's server; `response` returns the status for an event with a valid signature."""

    name: str
    says: str
    response: Response
    url: str = ""
    event_types: Sequence[str] = (ALL_EVENTS,)
    secret: str = field(default="", repr=False)
    tries: dict[str, int] = field(default_factory=dict)
    accepted_at: dict[str, float] = field(default_factory=dict)
    forged: int = 0

    async def registered(self, secret: str) -> None:
        self.secret = secret

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            Verifier(self.secret).verify(body, dict(request.headers))
        except WebhookVerificationError:
            self.forged += 1
            return web.Response(status=401)
        event = json.loads(body)
        self.tries[event["id"]] = self.tries.get(event["id"], 0) + 1
        status = await self.response(self, event)
        if status < 300:
            self.accepted_at.setdefault(event["id"], time.monotonic())
        return web.Response(status=status, text="thank you" if status < 300 else "not today")


async def accept(customer: Customer, event: Event) -> int:
    return 200


async def fail_every_fourth_once(customer: Customer, event: Event) -> int:
    """Every fourth event fails once before it is accepted."""
    is_fourth = list(customer.tries).index(event["id"]) % 4 == 3
    return 503 if is_fourth and customer.tries[event["id"]] == 1 else 200


async def hang(customer: Customer, event: Event) -> int:
    """Hangs until the sender gives up."""
    await asyncio.sleep(60)
    return 200


async def refuse_some_scores(customer: Customer, event: Event) -> int:
    """Refuses the scores of some learners, each time."""
    unlucky = event["data"].get("learnerId", "").endswith("3")
    return 422 if unlucky and event["type"] == "session.scored" else 200


def make_customers() -> list[Customer]:
    return [
        Customer("crm", "responds at once", accept),
        Customer("certificates", "often fails once", fail_every_fourth_once),
        Customer("warehouse", "hangs", hang),
        Customer("compliance", "refuses some scores", refuse_some_scores),
    ]


@asynccontextmanager
async def open_for_business(customers: list[Customer]) -> AsyncIterator[None]:
    """Serve all customers on one loopback port, each at `/<name>`."""
    app = web.Application()
    app.add_routes([web.post(f"/{customer.name}", customer.receive) for customer in customers])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        for customer in customers:
            customer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/{customer.name}"
        yield
    finally:
        await runner.cleanup()
