"""The dashboard's pages for a large account: time to the first byte, and what a cold browser transfers."""

import re
import statistics
import time
from typing import Annotated, Any

import httpx
import psycopg
import typer

from bench.stack import WHOLE, Stack, percentile, running, stack_with_api

WEBHOOKS = 10
EVENTS = """
INSERT INTO events (account_id, event_id, first_seen_at, body, hash, session_id, learner_id, package_id, dispatch_id)
SELECT %(account)s, 'evt_' || n, now() - n * interval '1 second', %(body)s, sha256(%(body)s),
       'sess_' || n / 3, 'learner-' || n %% 50000, 'pkg_' || n %% 200, 'dsp_' || n %% 500
FROM generate_series(1, %(rows)s) AS n
"""
DELIVERIES = """
INSERT INTO deliveries (id, account_id, event_id, event_type, webhook_id, trigger, first_seen_at, generation, step,
                        state, attempts, target, changed_at, reason, message, target_attempt)
SELECT md5('d' || n), %(account)s, 'evt_' || n,
       CASE WHEN n %% 5000 = 0 THEN 'package.updated' WHEN n %% 3 = 0 THEN 'session.launched' ELSE 'session.scored' END,
       (%(webhooks)s::text[])[1 + n %% %(count)s], 'event', now() - n * interval '1 second', 1, 2,
       CASE WHEN n %% 2000 = 0 THEN 'dead' WHEN n %% 3000 = 1 THEN 'held' ELSE 'delivered' END, 1, 'primary',
       now() - n * interval '1 second', CASE WHEN n %% 2000 = 0 THEN 'exhausted' END,
       'The endpoint responded with 200.', 1
FROM generate_series(1, %(rows)s) AS n
"""
ATTEMPTS = """
INSERT INTO attempts (id, delivery_id, webhook_id, generation, number, trigger, target, url, started_at, ended_at,
                      request_headers, status, response_headers, response_body, outcome, message, next_step,
                      webhook_version)
SELECT md5('a' || n), md5('d' || n), (%(webhooks)s::text[])[1 + n %% %(count)s], 1, 1, 'event', 'primary',
       'https://example.com/', now() - n * interval '1 second',
       now() - n * interval '1 second' + (40 + n %% 100) * interval '1 millisecond', %(headers)s,
       CASE WHEN n %% 50 = 0 THEN 503 ELSE 200 END, %(headers)s, 'thanks',
       CASE WHEN n %% 50 = 0 THEN 'server_error' ELSE 'delivered' END, 'The endpoint responded.', 'done', 1
FROM generate_series(1, %(rows)s) AS n
"""
HOURS = """
INSERT INTO hourly_attempts (webhook_id, hour, outcome, attempts, milliseconds, slowest_ms, last_at)
SELECT webhook_id, date_trunc('hour', started_at), outcome, count(*),
       sum(extract(epoch FROM ended_at - started_at) * 1000), 140, max(ended_at)
FROM attempts GROUP BY 1, 2, 3
"""
TIMES = """
INSERT INTO response_times (webhook_id, hour, up_to_ms, attempts)
SELECT webhook_id, date_trunc('hour', started_at),
       CASE WHEN ended_at - started_at <= interval '50 ms' THEN 50 WHEN ended_at - started_at <= interval '100 ms'
            THEN 100 ELSE 250 END, count(*)
FROM attempts GROUP BY 1, 2, 3
"""
HEADERS = '{"content-type": "application/json", "webhook-id": "evt_1", "webhook-timestamp": "1775822400"}'


def pages(
    deliveries: Annotated[int, typer.Option(help="Deliveries of the account.")] = 1_000_000,
    requests: Annotated[int, typer.Option(help="Requests for each page.")] = 40,
) -> dict[str, object]:
    """Time to the first byte of each page, and its size, for an account with a million deliveries."""
    with running(stack_with_api()) as stack:
        stack.start((*WHOLE, "api"))
        paths = _seed(stack, deliveries)
        headers = {"Accept-Encoding": "gzip", "Origin": stack.api_url}
        with httpx.Client(base_url=stack.api_url, headers=headers, timeout=30, follow_redirects=True) as client:
            assert client.post(paths.pop("sign in")).raise_for_status().url.path == "/"
            assets = _assets(client)
            p50: dict[str, float] = {}
            p99: dict[str, float] = {}
            kilobytes: dict[str, float] = {}
            for name, path in paths.items():
                found = [_first_byte(client, path) for _ in range(requests + 3)][3:]
                p50[name] = round(statistics.median(ms for ms, _ in found), 1)
                p99[name] = round(percentile([ms for ms, _ in found], 0.99), 1)
                kilobytes[name] = round((found[-1][1] + assets) / 1000, 1)
        return stack.say(
            experiment="pages",
            deliveries=deliveries,
            requests=requests,
            slowest_p50_ms=max(p50.values()),
            slowest_p99_ms=max(p99.values()),
            largest_kb=max(kilobytes.values()),
            p50_ms_by_page=p50,
            p99_ms_by_page=p99,
            kb_by_page=kilobytes,
        )


def _seed(stack: Stack, rows: int) -> dict[str, str]:
    """Fill the account. Returns the path of each page."""
    made = stack.system.run("accounts", "create", "Large", "--json")
    user = stack.system.run("users", "add", made["id"], "ada@example.com", "--json")
    with httpx.Client(base_url=stack.api_url, headers={"Authorization": f"Bearer {made['apiKey']}"}) as client:
        webhooks = [
            client.post("/v1/webhooks", json={"url": stack.sink.url(f"/ok/{number}")}).raise_for_status().json()["id"]
            for number in range(WEBHOOKS)
        ]
    values: dict[str, Any] = {
        "account": made["id"],
        "webhooks": webhooks,
        "count": WEBHOOKS,
        "rows": rows,
        "body": b'{"id": "evt_1", "type": "session.scored", "data": {"scoreRaw": 92, "title": "' + b"x" * 400 + b'"}}',
        "headers": HEADERS,
    }
    with psycopg.connect(stack.system.env["DATABASE_URL"], autocommit=True) as connection:
        for statement in (EVENTS, DELIVERIES, ATTEMPTS, HOURS, TIMES):
            connection.execute(statement.encode(), values if "%(" in statement else None)
        connection.execute("VACUUM ANALYZE")
        [known] = connection.execute("SELECT md5('d7')").fetchone() or [""]
    link = stack.system.run("users", "sign-in", made["id"], user["id"], "--json")["url"]
    return {
        "sign in": link[link.index("/sign-in") :],
        "overview": "/",
        "webhooks": "/webhooks",
        "webhook": f"/webhooks/{webhooks[3]}",
        "webhook form": "/webhooks/new",
        "verify the signature": f"/webhooks/{webhooks[3]}/code",
        "deliveries": "/deliveries",
        "deliveries of a webhook": f"/deliveries?webhook={webhooks[3]}",
        "deliveries of a rare type": "/deliveries?type=package.updated",
        "deliveries of a state": "/deliveries?state=held",
        "delivered ones": "/deliveries?state=delivered",
        "deliveries of a session": "/deliveries?session=sess_77",
        "deliveries of a learner": "/deliveries?learner=learner-77",
        "deliveries of a package": "/deliveries?package=pkg_77",
        "deliveries with a 5xx": "/deliveries?class=5",
        "deliveries of a time": "/deliveries?since=2020-01-01T00%3A00%3A00Z",
        "delivery": f"/deliveries/{known}",
        "dead letters": "/dead-letters",
        "account": "/account",
        "audit log": "/audit",
        "mails": "/notifications",
    }


def _assets(client: httpx.Client) -> int:
    """The bytes of what a page refers to, as they are transferred."""
    page = client.get("/").text
    found = sorted(set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page)))
    assert len(found) >= 4, found
    return sum(_first_byte(client, path)[1] for path in found)


def _first_byte(client: httpx.Client, path: str) -> tuple[float, int]:
    """The time to the first byte of a response in milliseconds, and its bytes as they are transferred."""
    began = time.perf_counter()
    with client.stream("GET", path) as response:
        received = response.iter_raw()
        first = len(next(received, b""))
        took = 1000 * (time.perf_counter() - began)
        size = first + sum(map(len, received))
        assert response.status_code == 200, (path, response.status_code)
    return took, size
