"""Passes each real delivery on to a receiver, twice and with forgeries, and waits for one that was killed."""

import http.client
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from standardwebhooks import Webhook

from e2e.receiver import Received, Receiver

# Shorter than the time that `deliver` gives an attempt.
PATIENCE_SECONDS = 9.0


class Relay:
    """An endpoint at `path` in front of the receiver on `port`."""

    def __init__(self, endpoint: Receiver, path: str, port: int) -> None:
        self.url = endpoint.url(path)
        self.secret = ""
        self.statuses_of_forgeries: set[int] = set()
        self._port = port
        endpoint.responses[path] = self._pass

    def _pass(self, request: Received) -> int:
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            for headers, body in self._forgeries(request):
                self.statuses_of_forgeries.add(self._post(headers, body, deadline))
            statuses = {self._post(request.headers, request.body, deadline) for _ in range(2)}
        except TimeoutError:
            return 503  # the receiver is away: the delivery is tried again
        return statuses.pop() if len(statuses) == 1 else 500

    def _forgeries(self, request: Received) -> Iterator[tuple[Mapping[str, str], bytes]]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        del headers["content-length"]
        changed = request.body.replace(b'"id":"', b'"id":"forged_')
        assert changed != request.body
        yield headers, changed
        now = datetime.now(UTC)
        yield headers | self._signed("forged_1", "whsec_" + "A" * 32, changed, now), changed
        yield headers | self._signed("forged_2", self.secret, changed, now - timedelta(minutes=10)), changed
        yield {**headers, "webhook-signature": "v1,"}, changed
        yield {"content-type": "application/json"}, changed

    @staticmethod
    def _signed(event_id: str, secret: str, body: bytes, at: datetime) -> dict[str, str]:
        signature = Webhook(secret).sign(event_id, at, body.decode())
        return {
            "webhook-id": event_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": signature,
        }

    def _post(self, headers: Mapping[str, str], body: bytes, deadline: float) -> int:
        """Post until there is a response. Raises TimeoutError when there is none by `deadline`."""
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
            try:
                connection.request("POST", "/", body, dict(headers))
                return connection.getresponse().status
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
            finally:
                connection.close()
        raise TimeoutError("the receiver does not answer")
