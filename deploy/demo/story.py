"""The story of compose.yaml's profile `demo`, told by the public API alone.

An operator opens an account, its developer registers a webhook, the platform publishes what learners do. It ends when
each event has arrived with a genuine signature: exit code 0, or 1 after a minute without the rest.
"""

import hashlib
import hmac
import json
import os
import sys
import time
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import uuid4

SESSIONS = 5
PATIENCE_SECONDS = 60.0
SIGNATURE = "X-AllureConnect-Signature"

API = os.environ["API_URL"]
RECEIVER = os.environ["RECEIVER_URL"]
OPERATOR_KEY = os.environ["OPERATOR_KEYS"].split(",")[0].rpartition("=")[2]


class Receiver(BaseHTTPRequestHandler):
    """The customer's endpoint: it verifies, responds at once, and notes each event once."""

    secret = ""
    seen: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        expected = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        genuine = hmac.compare_digest(expected, self.headers.get(SIGNATURE, ""))
        self.send_response(204 if genuine else 401)
        self.end_headers()
        if genuine:
            event = json.loads(body)
            self.seen[event["id"]] = event["type"]
            say(f"{event['type']} {event['id']} arrived, its signature is genuine")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what arrives is said above."""


def say(text: str) -> None:
    print(text, flush=True)


def call(path: str, key: str, body: dict[str, Any] | list[Any]) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(API + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def events_of(number: int) -> list[dict[str, Any]]:
    """What a learner does in one session: opens it, gets a score, passes."""
    who = {"sessionId": f"sess_{uuid4().hex}", "packageId": "pkg_safety", "learnerId": f"learner-{number}"}
    passed = {"completionStatus": "completed", "successStatus": "passed", "scoreRaw": 92, "totalTime": "PT12M34S"}
    data = {"session.launched": who, "session.scored": {**who, "scoreRaw": 92}, "session.completed": {**who, **passed}}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        {"id": f"evt_{uuid4().hex}", "type": name, "createdAt": now, "data": details} for name, details in data.items()
    ]


def main() -> int:
    server = ThreadingHTTPServer(("", urlsplit(RECEIVER).port or 80), Receiver)
    Thread(target=server.serve_forever, daemon=True).start()
    account = call("/v1/accounts", OPERATOR_KEY, {"name": "Demo", "emails": ["ops@example.com"]})
    key = account["apiKey"]
    Receiver.secret = call("/v1/webhooks", key, {"url": RECEIVER, "events": ["*"]})["secret"]
    say(f"account {account['id']} has a webhook to {RECEIVER}")

    published: set[str] = set()
    for number in range(SESSIONS):
        for event in events_of(number):
            published |= set(call("/v1/events", key, event)["ids"])
    say(f"{len(published)} events published")

    deadline = time.monotonic() + PATIENCE_SECONDS
    while not published <= Receiver.seen.keys() and time.monotonic() < deadline:
        time.sleep(0.1)
    missing = published - Receiver.seen.keys()
    say(f"missing: {', '.join(sorted(missing))}" if missing else "every event has arrived")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
