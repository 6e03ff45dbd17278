"""A customer of the running system: its account, its webhook, and its receiver behind a relay."""

import json
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from e2e.learning_platform import Platform, encoded
from e2e.receiver import Receiver
from e2e.system import System, until
from examples.events import Event
from examples.program import Program
from examples.relay import Relay

KILLS = 3
RECORDS = {
    "session.launched": "SessionLaunched",
    "session.completed": "SessionCompleted",
    "session.scored": "SessionScored",
    "package.updated": "PackageUpdated",
}


class Customer:
    """Starts the receiver with the secret of a new webhook."""

    def __init__(
        self, system: System, platform: Platform, endpoint: Receiver, program: Program, event_types: Sequence[str]
    ) -> None:
        self.account = system.account()
        self.program = program
        self.relay = Relay(endpoint, f"/{program.name}", program.port)
        types = ("--events", ",".join(event_types)) if event_types else ()
        self.webhook = system.webhook(self.account, self.relay.url, *types)
        self.relay.secret = self.webhook["secret"]
        self._system = system
        self._platform = platform
        program.start(WEBHOOK_SECRET=self.webhook["secret"])

    def publish(self, events: Sequence[Event]) -> None:
        """Publish each event twice, on different partitions."""
        for key in ("a", "b"):
            for event in events:
                data = (f"scormwebhooks.v1.{RECORDS[event['type']]}", event["data"])
                at = datetime.fromisoformat(event["createdAt"])
                self._platform.publish(
                    event["id"], encoded(event["id"], event["type"], self.account, data, at), key + event["id"]
                )
        self._platform.flush()

    def publish_through_kills(self, events: Sequence[Event]) -> Program:
        """Publish events and kill the receiver in the middle of its work; wait until all are done."""
        for kill in range(KILLS):
            before = self.program.done()
            self.publish(events[kill::KILLS])
            until(lambda before=before: self.program.done() > before, message="work under way")  # type: ignore[misc]
            self.program.kill()
            self.program.forget_last()
            self.program.start()
        self.wait_for(len(events))
        return self.program

    def get(self, path: str) -> Any:
        """Read from the API with a key of the account."""
        url = f"http://127.0.0.1:{self._system.env['SCORM_WEBHOOKS_API_PORT']}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._api_key}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    @cached_property
    def _api_key(self) -> str:
        return str(self._system.run("api-keys", "create", self.account, "--name", "test", "--json")["apiKey"])

    def wait_for(self, wanted: int) -> None:
        """Wait until the system knows that this many events are delivered, and the receiver has done them."""
        webhook_id = self.webhook["id"]

        def undelivered() -> str:
            found = self._system.deliveries(webhook_id)
            return f"{len(found)} of {wanted} deliveries: {[one for one in found if one['state'] != 'delivered']}"

        until(lambda: self._system.states(webhook_id) == {"delivered": wanted}, 90, undelivered)
        self.program.wait_for(wanted)
        assert self.relay.statuses_of_forgeries == {401}, self.relay.statuses_of_forgeries
