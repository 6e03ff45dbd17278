"""Pull webhooks: how fast readers get events beside requests, and what readers cost that wait."""

import asyncio
import time
from collections import Counter
from typing import Annotated, Any

import aiohttp
import psycopg
import typer

from bench.stack import Stack, running, stack_with_api
from e2e.system import STAGES
from streams.core.limits import MAX_PULL_ITEMS
from streams.core.webhooks.webhook_input import WebhookInput
from streams.runtime.bootstrap import SqlDeployment


def pulled(
    events: Annotated[int, typer.Option(help="Events of each measurement.")] = 20_000,
    readers: Annotated[int, typer.Option(help="Readers of the webhook.")] = 8,
    count: Annotated[int, typer.Option(help="Pairs: by requests, and pulled.")] = 3,
) -> dict[str, object]:
    """Events a second of a backlog that readers pull and acknowledge, beside one that goes by requests, in turn."""
    with running(stack_with_api()) as stack:
        stack.start((*STAGES, "api"))
        [(pushed, _)] = stack.register(["/ok/pushed"], max_concurrency=256)
        account, webhook, key = _pull_webhook(stack)
        stack.warm_up([pushed])
        by_requests, by_pulls = list[float](), list[float]()
        for number in range(count):
            by_requests.append(_by_requests(stack, pushed, f"push_{number}", events))
            by_pulls.append(asyncio.run(_by_pulls(stack, account, webhook, key, f"pull_{number}", events, readers)))
        ratios = sorted(round(pull / push, 2) for push, pull in zip(by_requests, by_pulls, strict=True))
        return stack.say(
            experiment="pulled",
            events=events,
            readers=readers,
            requests_per_second=[round(one) for one in by_requests],
            pulled_per_second=[round(one) for one in by_pulls],
            ratios=ratios,
            ratio_median=ratios[len(ratios) // 2],
        )


def readers(
    count: Annotated[int, typer.Option(help="Readers that wait, of ten webhooks.")] = 1000,
    seconds: Annotated[float, typer.Option(help="Seconds of waiting.")] = 60,
) -> dict[str, object]:
    """Memory and CPU of one `api` while readers wait, transactions a second, and how late an event reaches one."""
    with running(stack_with_api(SCORM_WEBHOOKS_API_CONNECTIONS=str(4 * count + 100))) as stack:
        stack.start((*STAGES, "api"))
        webhooks = [_pull_webhook(stack) for _ in range(10)]
        figures = asyncio.run(_wait_with(stack, webhooks, count, seconds))
        return stack.say(experiment="readers", count=count, seconds=seconds, **figures)


def _pull_webhook(stack: Stack) -> tuple[str, str, str]:
    """An account with a pull webhook: their ids, and a key."""
    deployment = SqlDeployment.from_environment(stack.system.env)

    async def register() -> tuple[str, str, str]:
        opened = await deployment.accounts().open("pulls", (), actor="bench")
        webhook_input = WebhookInput(opened.account.id, delivery="pull")
        made = await deployment.webhooks().register(webhook_input, actor="bench")
        await deployment.database.close()
        return opened.account.id, made.change.registration.webhook.id, opened.api_key

    return asyncio.run(register())


def _by_requests(stack: Stack, account: str, name: str, events: int) -> float:
    before = stack.sink.count()
    began = time.monotonic()
    stack.publish_many(name, [account], events)
    stack.wait_for(before + events, 300)
    return events / (time.monotonic() - began)


async def _by_pulls(stack: Stack, account: str, webhook: str, key: str, name: str, events: int, count: int) -> float:
    acknowledged = set[str]()
    headers = {"Authorization": f"Bearer {key}"}

    async def read(session: aiohttp.ClientSession) -> None:
        while len(acknowledged) < events:
            body = {"max": MAX_PULL_ITEMS, "waitSeconds": 1, "leaseSeconds": 60}
            async with session.post(f"/v1/webhooks/{webhook}/pull", json=body) as response:
                ids = [item["id"] for item in (await response.json())["items"]]
            if ids:
                async with session.post(f"/v1/webhooks/{webhook}/ack", json={"ids": ids}) as response:
                    acknowledged.update((await response.json())["ids"])

    began = time.monotonic()
    await asyncio.to_thread(stack.publish_many, name, [account], events)
    async with aiohttp.ClientSession(stack.api_url, headers=headers) as session:
        await asyncio.gather(*(read(session) for _ in range(count)))
    return events / (time.monotonic() - began)


async def _wait_with(stack: Stack, webhooks: list[tuple[str, str, str]], count: int, seconds: float) -> dict[str, Any]:
    memory_before = stack.memory_mb("api")
    transactions_idle = await _transactions(stack, 5)
    arrived: dict[str, float] = {}
    refused = Counter[str]()
    ends_at = time.monotonic() + seconds

    async def read(session: aiohttp.ClientSession, webhook: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        while time.monotonic() < ends_at:
            body = {"max": 1, "waitSeconds": 25}
            async with session.post(f"/v1/webhooks/{webhook}/pull", json=body, headers=headers) as response:
                if response.status != 200:
                    refused[str(response.status)] += 1
                    await asyncio.sleep(1)
                    continue
                items = (await response.json())["items"]
            for item in items:
                # The readers acknowledge nothing, so it comes again after its lease.
                arrived.setdefault(item["headers"]["webhook-id"], time.monotonic())

    async with aiohttp.ClientSession(stack.api_url, connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(read(session, *webhooks[number % len(webhooks)][1:])) for number in range(count)]
        await asyncio.sleep(10)
        cpu_before = stack.cpu_seconds()
        transactions = await _transactions(stack, 10)
        cpu_after = stack.cpu_seconds()
        memory = stack.memory_mb("api")
        sent: dict[str, float] = {}
        while time.monotonic() < ends_at - 5:
            event_id = f"evt_{len(sent)}"
            sent[event_id] = time.monotonic()
            stack.publish(event_id, webhooks[len(sent) % len(webhooks)][0])
            stack.flush()
            await asyncio.sleep(0.2)
        await asyncio.gather(*tasks)
    delays = sorted(1000 * (arrived[event_id] - at) for event_id, at in sent.items() if event_id in arrived)
    return {
        "api_mb_before": round(memory_before),
        "api_mb": round(memory),
        "cpu_percent": {
            name: round(100 * (cpu_after[name] - cpu_before[name]) / 10, 1) for name in ("api", "postgres")
        },
        "transactions_per_second_idle": transactions_idle,
        "transactions_per_second": transactions,
        "refused": dict(refused),
        "events": len(sent),
        "arrived": len(delays),
        "p50_ms": round(delays[len(delays) // 2]),
        "p99_ms": round(delays[int(0.99 * (len(delays) - 1))]),
    }


async def _transactions(stack: Stack, seconds: float) -> float:
    """Transactions of the database in a second, measured over some."""

    def total() -> int:
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        with psycopg.connect(stack.system.env["DATABASE_URL"]) as connection:
            [(number,)] = connection.execute(query).fetchall()
        return int(number)

    before = await asyncio.to_thread(total)
    await asyncio.sleep(seconds)
    return round((await asyncio.to_thread(total) - before) / seconds, 1)
