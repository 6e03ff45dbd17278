"""Run the demo: start everything, run the course, show it, and account for every event."""

import asyncio
import contextlib
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from streams.core.accounts.access import Role
from streams.core.accounts.session import MAX_LINK_LIFETIME
from streams.core.deliveries.delivery import State
from streams.core.errors import Misconfigured, ScormWebhooksError
from streams.core.webhooks.webhook import ALL_EVENTS
from streams.core.webhooks.webhook_input import WebhookInput
from streams.demo.course import Course
from streams.demo.customers import Customer, make_customers, open_for_business
from streams.demo.receivers import OutsideCustomer, read_receivers
from streams.demo.screen import CustomerRow, Snapshot, draw, links_text, percentile
from streams.log_lines import configure_logging
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.local import run_system
from streams.tasks import stop_signal
from streams.telemetry import PrometheusTelemetry

START_SECONDS = 90.0
SETTLE_SECONDS = 120.0
REFRESH_SECONDS = 0.25
DEMO_SETTINGS = {
    "SCORM_WEBHOOKS_RETRY_SCHEDULE": "1s,2s,3s,5s,8s",
    "SCORM_WEBHOOKS_ATTEMPT_TIMEOUT_SECONDS": "2",
    "SCORM_WEBHOOKS_ALLOW_HTTP": "true",
    "SCORM_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8",
}


class DemoFailed(ScormWebhooksError):
    """An event of the demo is neither delivered nor held nor dead."""


@dataclass(slots=True)
class Demo:
    """The running parts, and the data to draw them."""

    deployment: SqlDeployment
    customers: Sequence[Customer | OutsideCustomer]
    webhook_ids: dict[str, str]
    course: Course
    api_key: str = field(repr=False)
    sign_in_link: str = field(repr=False)

    async def scene(self) -> Snapshot:
        state_counts = await self.deployment.deliveries().count_states()
        status = {registration.id: str(registration.status) for registration in await self.deployment.webhooks().list()}
        lines = [
            CustomerRow(customer.name, customer.says, status[webhook_id], state_counts.get(webhook_id, ()))
            for customer in self.customers
            if (webhook_id := self.webhook_ids[customer.name])
        ]
        return Snapshot(len(self.course.published_at), lines, self.delivery_latencies())

    def expected_count(self, name: str) -> int:
        """The number of published events that a customer's webhook takes."""
        [types] = (customer.event_types for customer in self.customers if customer.name == name)
        counts = self.course.types
        return counts.total() if ALL_EVENTS in types else sum(counts[customer] for customer in types)

    @property
    def healthy(self) -> Customer | None:
        """The customer that gets every event at once; None where customers run elsewhere."""
        first = self.customers[0]
        return first if isinstance(first, Customer) else None

    def delivery_latencies(self) -> list[float] | None:
        """Seconds from publishing to the healthy customer's 2xx; None without one."""
        if (healthy := self.healthy) is None:
            return None
        published = self.course.published_at
        return [at - published[event_id] for event_id, at in healthy.accepted_at.items() if event_id in published]

    def links(self) -> str:
        settings = self.deployment.settings
        return links_text(settings.data_dir, settings.url, self.sign_in_link, self.api_key)


async def run_demo(events: int | None, leave: bool, seed: int, receivers: Path | None) -> None:
    """Run until Ctrl-C, or with `leave` until every event is accounted for. Raises `DemoFailed`, `Misconfigured`.

    `receivers` is a file that names the customers, which run elsewhere.
    """
    outside = read_receivers(receivers) if receivers else []
    stopping = stop_signal()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="scorm-webhooks-demo-") as folder:
        _print(console, "starting the stages on an embedded broker and SQLite … Ctrl-C ends it")
        async with _running_demo(Path(folder), seed, outside) as demo:
            _print(console, demo.links())
            if not console.is_terminal:
                demo.course.on_published = partial(_print_event, console)
            publishing = asyncio.create_task(demo.course.run(events))
            try:
                await _show(console, demo, publishing, stopping, leave)
            finally:
                publishing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await publishing
            if leave and not stopping.is_set():
                await _account(console, demo)
    _print(console, "The demo has ended, and its data is deleted.")


def _print(console: Console, text: str) -> None:
    # A link must not be broken into lines.
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _print_event(console: Console, event_id: str, fields: Mapping[str, Any]) -> None:
    _print(console, f"published {fields['type']:<17} {event_id}  {fields['data']['sessionId']}")


@asynccontextmanager
async def _running_demo(folder: Path, seed: int, outside: Sequence[OutsideCustomer]) -> AsyncIterator[Demo]:
    own_environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("SCORM_", "KAFKA_", "DATABASE_"))
    }
    places = {"SCORM_WEBHOOKS_DATA_DIR": str(folder / "data"), "SCORM_WEBHOOKS_API_PORT": str(_free_port())}
    deployment = SqlDeployment.from_environment({**own_environ, **DEMO_SETTINGS, **places})
    configure_logging("console", "error", "demo")
    logs = folder / "logs"
    logs.mkdir()
    inside = [] if outside else make_customers()
    customers = outside or inside
    async with (
        run_system(deployment, PrometheusTelemetry("demo"), logs) as supervisor,
        open_for_business(inside),
    ):
        deadline = time.monotonic() + START_SECONDS
        while await supervisor.readiness_problems():
            if time.monotonic() > deadline or not supervisor.is_running:
                raise DemoFailed("the stages did not start: " + "; ".join(await supervisor.readiness_problems()))
            await asyncio.sleep(0.1)
        new_account = await deployment.accounts().open("Acme Learning", ["ops@acme.example"], actor="demo")
        webhook_ids = {}
        for customer in customers:
            webhook_input = WebhookInput(
                new_account.account.id, customer.url, customer.event_types, description=customer.says
            )
            result = await deployment.webhooks().register(webhook_input, actor="demo")
            await customer.registered(result.secret)
            webhook_ids[customer.name] = result.change.registration.webhook.id
        link = await deployment.sign_in().create_portal_link(
            new_account.account.id, Role.OWNER, MAX_LINK_LIFETIME, actor="demo"
        )
        course = Course(deployment.kafka["bootstrap.servers"], new_account.account.id, seed)
        try:
            yield Demo(deployment, customers, webhook_ids, course, new_account.api_key, link.url)
        finally:
            await course.close()
            await deployment.database.close()


def _free_port() -> int:
    """A port that is still free when `api` starts: the kernel does not choose such low ports by itself."""
    for port in random.sample(range(10_000, 20_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise Misconfigured("the demo found no free port on 127.0.0.1 between 10000 and 20000")


async def _show(
    console: Console, demo: Demo, publishing: "asyncio.Task[None]", stopping: asyncio.Event, leave: bool
) -> None:
    """Draw until stopped, or with `leave` until the course is over and nothing waits."""
    deadline: float | None = None
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while not stopping.is_set():
            scene = await demo.scene()
            if console.is_terminal:
                live.update(draw(scene), refresh=True)
            if publishing.done():
                await publishing
                if deadline is None:
                    deadline = time.monotonic() + SETTLE_SECONDS
                    if leave and not console.is_terminal:
                        _print(console, "every event is published; waiting until each is delivered, held or dead")
                if leave and (_is_settled(demo, scene) or time.monotonic() > deadline):
                    live.update(draw(scene), refresh=True)
                    return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), REFRESH_SECONDS)


def _is_settled(demo: Demo, scene: Snapshot) -> bool:
    return all(_settled_count(line) == demo.expected_count(line.name) for line in scene.customers)


def _settled_count(line: CustomerRow) -> int:
    return sum(line.count(state) for state in (State.DELIVERED, State.HELD, State.DEAD))


async def _account(console: Console, demo: Demo) -> None:
    """Check that acknowledged × wanting = delivered + held + dead, and that the healthy customer has each event."""
    scene = await demo.scene()
    published_ids = demo.course.published_at.keys()
    wrong = [
        f"{line.name}: {_settled_count(line)} of {demo.expected_count(line.name)} events accounted for"
        for line in scene.customers
        if _settled_count(line) != demo.expected_count(line.name)
    ]
    if demo.healthy and (missing_events := published_ids - demo.healthy.accepted_at.keys()):
        wrong.append(f"{demo.healthy.name} never got {len(missing_events)} events")
    inside = [customer for customer in demo.customers if isinstance(customer, Customer)]
    wrong += [f"{customer.name} got {customer.forged} forged requests" for customer in inside if customer.forged]
    if wrong:
        raise DemoFailed("; ".join(wrong))
    if not console.is_terminal:
        console.print()  # The last picture is not followed by a line break.
    states = {state: sum(line.count(state) for line in scene.customers) for state in State}
    message = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    sign = "×" if demo.healthy else "for"  # receivers take some types of events only
    console.print(
        f"{len(published_ids)} events {sign} {len(scene.customers)} webhooks = {message}: every one accounted for"
    )
    if demo.healthy and (delivery_latencies := demo.delivery_latencies()):
        p50, p99 = (percentile(delivery_latencies, share) * 1000 for share in (0.5, 0.99))
        console.print(f"event to 2xx at {demo.healthy.name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    sys.stdout.flush()
