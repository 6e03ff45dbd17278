"""The control plane: lists of a large account, the first delivery after a registration, replays."""

import statistics
import time
from datetime import datetime
from typing import Annotated, Any

import httpx
import psycopg
import typer

from bench.apart import paced
from bench.stack import WHOLE, Stack, percentile, running, stack_with_api
from e2e.system import until

MEASURED_SECONDS = 30
ROWS = """
INSERT INTO deliveries (id, account_id, event_id, event_type, webhook_id, trigger, first_seen_at, generation, step,
                        state, attempts, target, changed_at, reason, target_attempt)
SELECT md5('d' || n), %(account)s, 'evt_' || n,
       CASE WHEN n %% 5000 = 0 THEN 'package.updated' ELSE 'session.launched' END,
       CASE WHEN n %% 1000 = 0 THEN 'wh_small' ELSE 'wh_' || n %% 10 END,
       'event', now() - n * interval '2 seconds', 1, 2,
       CASE WHEN n %% 2000 = 0 THEN 'dead' WHEN n %% 3000 = 1 THEN 'held' ELSE 'delivered' END, 1, 'primary',
       now() - n * interval '2 seconds', CASE WHEN n %% 2000 = 0 THEN 'exhausted' END, 1
FROM generate_series(1, %(rows)s) AS n
"""
QUERIES: dict[str, dict[str, Any]] = {
    "all": {},
    "webhook": {"webhookId": "wh_3"},
    "small webhook": {"webhookId": "wh_small"},
    "event": {"eventId": "evt_777"},
    "type": {"eventType": "session.launched"},
    "rare type": {"eventType": "package.updated"},
    "state delivered": {"state": "delivered"},
    "state dead": {"state": "dead"},
    "webhook and state": {"webhookId": "wh_small", "state": "dead"},
    "time range": {"since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"},
}


def listing(
    deliveries: Annotated[int, typer.Option(help="Deliveries of the account.")] = 1_000_000,
    requests: Annotated[
        int, typer.Option(help="Requests for each filter; every second one is for a later page.")
    ] = 200,
) -> dict[str, object]:
    """Time of `GET /v1/deliveries` by filter, for an account with a million deliveries."""
    with running(stack_with_api()) as stack:
        stack.start((*WHOLE, "api"))
        made = stack.system.run("accounts", "create", "Large", "--json")
        with psycopg.connect(stack.system.env["DATABASE_URL"], autocommit=True) as connection:
            connection.execute(ROWS.encode(), {"account": made["id"], "rows": deliveries})
            connection.execute("VACUUM ANALYZE deliveries")
        p99: dict[str, float] = {}
        everything: list[float] = []
        with _client(stack, made["apiKey"]) as client:
            for name, query in QUERIES.items():
                took = [ms for _ in range(requests // 2) for ms in _two_pages(client, query)]
                everything += took
                p99[name] = round(percentile(took, 0.99), 1)
        return stack.say(
            experiment="listing",
            deliveries=deliveries,
            requests=len(everything),
            p50_ms=round(statistics.median(everything), 1),
            p99_ms=round(percentile(everything, 0.99), 1),
            p99_ms_by_filter=p99,
        )


def first_delivery(times: Annotated[int, typer.Option(help="Repetitions.")] = 20) -> dict[str, object]:
    """Time from the call that registers a webhook to the arrival of an event published after its response."""
    with running(stack_with_api()) as stack:
        stack.start((*WHOLE, "api"))
        made = stack.system.run("accounts", "create", "New", "--json")
        answered, arrived = [], []
        with _client(stack, made["apiKey"]) as client:
            for number in range(times + 1):
                began = time.monotonic()
                path = f"/ok/{number}"
                response = client.post("/v1/webhooks", json={"url": stack.sink.url(path)}).raise_for_status().json()
                assert response["propagated"], response
                answered.append(1000 * (time.monotonic() - began))
                stack.publish(f"evt_{number}", made["id"])
                stack.flush()
                until(lambda path=path: any(at == path for at, _, _, _ in stack.take()), 20)  # type: ignore[misc]
                arrived.append(1000 * (next(at for where, _, at, _ in stack.receipts if where == path) - began))
        # The first repetition opens every connection.
        return stack.say(
            experiment="first-delivery",
            times=times,
            answered_p50_ms=round(statistics.median(answered[1:]), 1),
            arrived_p50_ms=round(statistics.median(arrived[1:]), 1),
            arrived_max_ms=round(max(arrived[1:]), 1),
        )


def replay(
    dead_letters: Annotated[int, typer.Option(help="Dead letters to replay.")] = 100_000,
    rate: Annotated[float, typer.Option(help="Events a second to another webhook meanwhile.")] = 50,
    settle: Annotated[float, typer.Option(help="Seconds before the latency of the other webhook counts.")] = 30,
) -> dict[str, object]:
    """Throughput of a replay of dead letters by one call, and the latency of another webhook meanwhile."""
    with running(stack_with_api()) as stack:
        stack.start((*WHOLE, "api"))
        made = stack.system.run("accounts", "create", "Broken", "--json")
        with _client(stack, made["apiKey"]) as client:
            url = stack.sink.url("/ok/dead")
            webhook = (
                client.post("/v1/webhooks", json={"url": url, "maxConcurrency": 64}).raise_for_status().json()["id"]
            )
            [(other, _)] = stack.register(["/ok/other"])
            stack.warm_up([other])
            before = paced(stack, other, rate, MEASURED_SECONDS, "before")
            client.post(f"/v1/webhooks/{webhook}/pause").raise_for_status()
            stack.publish_many("dead", [made["id"]], dead_letters)
            stack.wait_for_states({"held": dead_letters}, 600, webhook)
            client.post(f"/v1/webhooks/{webhook}/enable", json={"held": "keep"}).raise_for_status()
            stack.wait_for_states({"dead": dead_letters}, 600, webhook)
            stack.take()
            began = time.monotonic()
            response = client.post("/v1/dead-letters/retry", json={"filter": {"webhookId": webhook}})
            job = response.raise_for_status().json()["id"]
            paced(stack, other, rate, settle, "early")
            cpu_before = stack.cpu_seconds()
            meanwhile = paced(stack, other, rate, MEASURED_SECONDS, "meanwhile")
            cpu_after = stack.cpu_seconds()
            left = dead_letters - stack.states(webhook).get("delivered", 0)
            until(lambda: "finishedAt" in client.get(f"/v1/jobs/{job}").json(), 600)
            finished = client.get(f"/v1/jobs/{job}").json()
            stack.wait_for_states({"delivered": dead_letters}, 900, webhook)
        stack.take()
        arrived = {event_id: at for path, event_id, at, _ in stack.receipts if path == "/ok/dead"}
        received = sum(path == "/ok/dead" for path, _, _, _ in stack.receipts)
        return stack.say(
            experiment="replay",
            dead_letters=dead_letters,
            job_seconds=round(_moment(finished["finishedAt"]) - _moment(finished["createdAt"]), 1),
            replayed_per_second=round(dead_letters / (max(arrived.values()) - began)),
            doubled=received - len(arrived),
            left_when_measured=left,
            p99_ms_before=round(percentile(before, 0.99), 1),
            p99_ms_meanwhile=round(percentile(meanwhile, 0.99), 1),
            cpu_share_meanwhile={
                part: round((cpu_after[part] - cpu_before[part]) / MEASURED_SECONDS, 2) for part in cpu_after
            },
        )


def _moment(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()


def _client(stack: Stack, key: str) -> httpx.Client:
    return httpx.Client(base_url=stack.api_url, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def _two_pages(client: httpx.Client, query: dict[str, Any]) -> list[float]:
    took, cursor = [], None
    for _ in range(2):
        began = time.perf_counter()
        response = client.get("/v1/deliveries", params={**query, **({"cursor": cursor} if cursor else {})})
        took.append(1000 * (time.perf_counter() - began))
        assert response.status_code == 200, response.text
        cursor = response.json().get("nextCursor")
    return took
