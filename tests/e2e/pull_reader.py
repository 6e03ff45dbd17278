"""A program that pulls events, handles them and acknowledges them, whatever happens to the API."""

import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import httpx2
import standardwebhooks

LEASE_SECONDS = 2


class PullReader(threading.Thread):
    """`pulled` counts each event that it got; `acknowledged` are those whose acknowledgement had a response.

    `late` are events that came again after that.
    """

    def __init__(self, api_url: str, key: str, webhook: dict[str, Any], shared: set[str]) -> None:
        super().__init__(daemon=True)
        self._client = httpx2.Client(base_url=api_url, headers={"Authorization": f"Bearer {key}"}, timeout=10)
        self._path = f"/v1/webhooks/{webhook['id']}"
        self._verifier = standardwebhooks.Webhook(webhook["secret"])
        self._stopping = threading.Event()
        self.pulled: Counter[str] = Counter()
        # Of all readers.
        self.acknowledged = shared
        self.late: list[str] = []

    def run(self) -> None:
        while not self._stopping.is_set():
            with suppress(httpx2.HTTPError):
                self._read()

    def stop(self) -> None:
        self._stopping.set()
        self.join(20)

    def pull(self, **body: Any) -> list[dict[str, Any]]:
        response = self._client.post(f"{self._path}/pull", json=body)
        items: list[dict[str, Any]] = response.json()["items"] if response.is_success else []
        return items

    def _read(self) -> None:
        known = set(self.acknowledged)
        event_ids = {}
        for item in self.pull(max=7, waitSeconds=1, leaseSeconds=LEASE_SECONDS):
            self._verifier.verify(item["body"], item["headers"])
            event_id = event_ids[item["id"]] = item["headers"]["webhook-id"]
            self.pulled[event_id] += 1
            if event_id in known:
                self.late.append(event_id)
        if event_ids:
            settled = self._client.post(f"{self._path}/ack", json={"ids": list(event_ids)})
            if settled.is_success:
                self.acknowledged |= {event_ids[one] for one in settled.json()["ids"]}
