"""A running system with its dashboard, endpoints with scripted responses, and a mail server that keeps every mail."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from adapters.test_smtp import Mailbox, Server

from browser.database import let_a_minute_pass
from e2e.receiver import Receiver
from e2e.system import until
from e2e.up import await_ready, running_up
from real.process import free_ports
from streams.core.events.event import render
from streams.features.webhooks.samples import sample_event

OPERATOR_KEY = "operator-key-of-the-browser-tests"
START_SECONDS = 90


@dataclass(frozen=True)
class Customer:
    """An account, and its API with the account's key."""

    id: str
    name: str
    api: httpx.Client = field(repr=False)

    def webhook(self, url: str, **more: Any) -> str:
        """Register a webhook that every stage knows; return its id."""
        made = as_json(self.api.post("/v1/webhooks", json={"url": url, **more}))
        assert made["propagated"]
        return str(made["id"])

    def publish(self, event_id: str, event_type: str = "session.completed", **data: Any) -> str:
        """Publish a realistic event; return its id."""
        sample = json.loads(render(sample_event(event_type, event_id, self.id, datetime.now(UTC))))
        sample["data"] |= data
        del sample["test"]
        as_json(self.api.post("/v1/events", json=sample))
        return event_id

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON of a successful response."""
        return as_json(self.api.post(path, json=body))

    def deliveries(self, **query: str) -> list[dict[str, Any]]:
        """Deliveries, newest first."""
        rows: list[dict[str, Any]] = as_json(self.api.get("/v1/deliveries", params={"limit": "500", **query}))["data"]
        return rows

    def wait_for(self, count: int, **query: str) -> list[dict[str, Any]]:
        """Wait until this many deliveries match; return them, newest first. The newest have their payloads then."""
        until(lambda: len(self.deliveries(**query)) >= count, 30, lambda: f"{count} of {query}: {self.deliveries()}")
        found = self.deliveries(**query)
        # A delivery is known by its attempt first: its payload may be stored seconds later.
        for row in found[:count]:
            until(partial(self._has_payload, row["id"]), 30, f"the payload of {row}", every=0.1)
        return found

    def _has_payload(self, delivery_id: str) -> bool:
        return "payload" in as_json(self.api.get(f"/v1/deliveries/{delivery_id}"))


@dataclass(frozen=True)
class Dashboard:
    """The system: its folder and address, its operator, its endpoints and its mails."""

    folder: Path
    url: str
    operator: httpx.Client = field(repr=False)
    receiver: Receiver
    mailbox: Mailbox

    def customer(self, name: str, emails: tuple[str, ...] = ()) -> Customer:
        """Open an account."""
        opened = as_json(self.operator.post("/v1/accounts", json={"name": name, "emails": emails}))
        return Customer(opened["id"], name, client(self.url, opened["apiKey"]))

    def user(self, customer: Customer, email: str, role: str = "owner") -> str:
        """Add a user; return the user's id."""
        path = f"/v1/accounts/{customer.id}/users"
        return str(as_json(self.operator.post(path, json={"email": email, "role": role}))["id"])

    def sign_in_link(self, customer: Customer, user_id: str) -> str:
        path = f"/v1/accounts/{customer.id}/users/{user_id}/sign-in-links"
        return str(as_json(self.operator.post(path))["url"])

    def portal_token(self, customer: Customer) -> str:
        """The token of a link that works for a day."""
        path, body = f"/v1/accounts/{customer.id}/portal-links", {"minutes": 1440}
        return str(as_json(self.operator.post(path, json=body))["url"]).rpartition("/")[2]

    def mail(self, to: str, subject: str, after: int = 0) -> EmailMessage:
        """Wait for the first mail to an address with this in its subject, and no earlier than mail number `after`."""

        def found() -> list[EmailMessage]:
            let_a_minute_pass(self.folder)
            return [one for one in self.mailbox.messages[after:] if subject in one["Subject"] and to in one["To"]]

        until(found, 30, lambda: f"a mail to {to} about {subject!r}: {[m['Subject'] for m in self.mailbox.messages]}")
        return found()[0]


def client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def as_json(response: httpx.Response) -> Any:
    assert response.is_success, response.text
    return response.json() if response.content else None


def link_in(mail: EmailMessage) -> str:
    """The link to a page in the text of a mail."""
    found = re.search(r"See it and act: (\S+)", text_of(mail))
    assert found, text_of(mail)
    return found[1]


def code_in(mail: EmailMessage) -> str:
    """The sign-in code in the subject of a mail."""
    return str(mail["Subject"]).removeprefix("Sign-in code ")


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


@contextmanager
def running_dashboard(folder: Path, settings: Mapping[str, str]) -> Iterator[Dashboard]:
    """`scorm-webhooks up` on an embedded broker; returns when every stage is ready."""
    [api_port] = free_ports(1)
    url = f"http://127.0.0.1:{api_port}"
    mailbox, receiver = Mailbox(), Receiver()
    mail_server = Server(mailbox)
    env = {
        "SCORM_WEBHOOKS_API_PORT": str(api_port),
        "SCORM_WEBHOOKS_PUBLIC_URL": url,
        "SCORM_WEBHOOKS_OPERATOR_KEYS": f"platform={OPERATOR_KEY}",
        "SCORM_WEBHOOKS_RATE_LIMIT": "100000",
        "SMTP_URL": f"smtp://127.0.0.1:{mail_server.port}?tls=none",
        **settings,
    }
    try:
        with running_up(folder, env) as (system, _):
            await_ready(system, START_SECONDS)
            yield Dashboard(folder, url, client(url, OPERATOR_KEY), receiver, mailbox)
    finally:
        mail_server.stop()
        receiver.close()
