"""Show the events of an account as they happen, and forward them to a receiver on this machine."""

import getpass
import json
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType
from typing import Annotated, Any, TypeVar

import httpx2
import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.connection_errors import no_response_reason
from scorm_webhooks_cli.output import AccountOption, JsonOption, parse_time_option, without_none
from scorm_webhooks_cli.receiver_options import checked_secret
from scorm_webhooks_cli.status_line import StatusLine
from scorm_webhooks_cli.text import hint, say
from streams.core.deliveries.signing import sign_platform, sign_standard
from streams.core.errors import Conflict, Invalid, NotFound, ScormWebhooksError, Unavailable
from streams.core.events.event_filter import parse_filter_json
from streams.core.text import escape_json
from streams.core.times import format_time, parse_time
from streams.core.webhooks.url import url_errors
from streams.ids import new_id

Result = TypeVar("Result")

# One at a time, so that a crash of this command repeats one event and not many.
MAX_ITEMS_PER_PULL = 1
WAIT_SECONDS = 20
LEASE_SECONDS = 120
# A connection that is silent for longer is dead: the machine slept, or a proxy forgot it.
RESPONSE_SECONDS = WAIT_SECONDS + 10.0
FORWARD_SECONDS = 10.0
# Refused events come again after these waits; the last wait repeats.
RETRY_SECONDS = (10, 30, 120, 600)
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 15.0
# If the webhook expired while the machine slept, a new one asks for all events since the last accepted one. Events are
# stored some seconds after they happened.
OVERLAP = timedelta(minutes=1)
# A webhook that is gone after a shorter silence was deleted by a person.
MIN_EXPIRY = timedelta(minutes=50)


def listen(
    forward_url: Annotated[
        str | None,
        typer.Option("--forward-to", metavar="URL", help="Send each event there: http://localhost:3000/hook."),
    ] = None,
    events: Annotated[str, typer.Option(help="Event types, comma-separated; or *: all.")] = "*",
    since: Annotated[
        str | None, typer.Option(help="Also events from then on: 10m, 2h, 3d, or 2026-04-10T14:32:00Z.")
    ] = None,
    filter_text: Annotated[
        str | None, typer.Option("--filter", help='Only events that match this JSON: {"successStatus": "passed"}.')
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="WEBHOOK_SECRET", show_envvar=True, help="Sign with this secret, which your receiver has already."
        ),
    ] = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the events of an account as they happen, and send them to a receiver on this machine.

    Makes a temporary pull webhook; Ctrl-C deletes it. Refused events come again, with longer and longer waits. After an
    interruption of up to an hour it continues where it stopped.

    Example: `scorm-webhooks listen --forward-to http://localhost:3000/hook --since 10m`
    """
    if forward_url is not None and (errors := url_errors("--forward-to", forward_url, allow_http=True)):
        raise Invalid(*errors)
    webhook = {
        "delivery": "pull",
        "temporary": True,
        "description": listener_name(),
        "events": [part.strip() for part in events.split(",") if part.strip()],
        **without_none(filter=parse_filter_json(filter_text) if filter_text else None),
    }
    signing_secret = checked_secret(secret) if secret else None
    since_time = parse_time_option("--since", since) if since else None
    with (
        open_api(account, needs_account=True) as api,
        httpx2.Client(timeout=FORWARD_SECONDS, trust_env=False) as client,
    ):
        listener = Listener(api, webhook, Receiver(client, forward_url, signing_secret), as_json)
        with _ended_by_a_signal():
            listener.run(since_time)


def listener_name() -> str:
    """The description of this person's temporary webhook, by which `trigger` finds it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"listen: {user} at {socket.gethostname()}"[:200]


@dataclass(frozen=True, slots=True)
class ForwardResult:
    """What the receiver did with an event. Without a receiver every event is accepted."""

    is_accepted: bool
    text: str
    milliseconds: int


@dataclass(slots=True)
class Receiver:
    """The server that events are forwarded to. It may be away, slow or wrong."""

    client: httpx2.Client
    url: str | None
    secret: str | None = field(repr=False)

    def send(self, item: Mapping[str, Any]) -> ForwardResult:
        """Send one item as it came, or signed with the receiver's own secret."""
        if self.url is None:
            return ForwardResult(True, "", 0)
        headers, body = dict(item["headers"]), item["body"].encode()
        if self.secret is not None:
            headers |= sign_again(headers, body, self.secret)
        began_at = time.monotonic()
        try:
            with self.client.stream("POST", self.url, content=body, headers=headers) as response:
                status = response.status_code
            text, is_accepted = str(status), 200 <= status < 300
        except httpx2.TimeoutException:
            text, is_accepted = f"no response within {FORWARD_SECONDS:g} seconds", False
        except httpx2.HTTPError as error:
            text, is_accepted = no_response_reason(self.url, error), False
        return ForwardResult(is_accepted, text, round(1000 * (time.monotonic() - began_at)))


def sign_again(headers: Mapping[str, str], body: bytes, secret: str) -> dict[str, str]:
    """New signature headers, made with another secret, to replace the request's."""
    signed: dict[str, str] = {}
    for name in headers:
        if name == "webhook-signature":
            signed[name] = sign_standard(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        elif name.lower().endswith(("-signature", "-signature-next")):
            signed[name] = sign_platform(secret, body)
    return signed


class Listener:
    """A temporary pull webhook and its reader.

    An event is acknowledged after the receiver accepted it. If this process dies before, the webhook is discarded
    within an hour: another `listen --since` asks for its events. Refused events are given back, and come again later.
    """

    def __init__(self, api: ApiClient, webhook: Mapping[str, Any], receiver: Receiver, as_json: bool) -> None:
        self._api = api
        self._webhook = webhook
        self._receiver = receiver
        self._as_json = as_json
        self._webhook_id = ""
        self._last_contact = datetime.now(UTC)
        # As far as this reader knows, every earlier event is accepted.
        self._complete_until = self._last_contact
        self._refused_ids: set[str] = set()
        self._status = StatusLine()

    def run(self, since: datetime | None) -> None:
        """Listen until an exception ends it, such as Ctrl-C; then the webhook is deleted."""
        self._complete_until = since or self._complete_until
        try:
            self._register(since, is_first=True)
            while True:
                self._read_one()
        finally:
            self._delete()
            self._status.clear()

    def _register(self, since: datetime | None, *, is_first: bool = False) -> None:
        began_at, key = datetime.now(UTC), new_id("listen")
        register = partial(self._api.post, "webhooks", body=self._webhook, headers={"Idempotency-Key": key})
        # The first error ends the command: the URL or the key may be wrong.
        made = register() if is_first else self._reconnecting(register)
        self._webhook_id = made["id"]
        where = f", forwarding to {self._receiver.url}" if self._receiver.url else ""
        hint(f"listening as webhook {made['id']}{where}; Ctrl-C ends it and deletes the webhook")
        if self._receiver.secret is None:
            # The receiver keeps it when another webhook follows.
            self._receiver.secret = made["secret"]
            if self._receiver.url:
                say(f"signing secret: {made['secret']}  (or --secret, to sign with that of your receiver)", err=True)
        if since is not None:
            # By the API's clock, because a laptop's may be minutes ahead.
            registered_at = parse_time(made["createdAt"]) or began_at
            body = {"since": format_time(since + (registered_at - began_at)), "backfill": True}
            replay = partial(self._api.post, "webhooks", made["id"], "replays", body=body)
            if is_first:
                replay()
            else:
                self._reconnecting(replay)
            hint(f"events since {_clock(since)} are on their way")

    def _read_one(self) -> None:
        """Pull once, and handle the items. Waits through an outage, and registers again if the webhook has expired."""
        self._status.show(f"waiting; last contact {_clock(self._last_contact)}")
        silent_since = self._last_contact
        try:
            items = self._reconnecting(self._pull)
            for item in items:
                self._handle(item)
        except NotFound:
            self._status.clear()
            if datetime.now(UTC) - silent_since < MIN_EXPIRY:
                raise Conflict(f"webhook {self._webhook_id} is gone: a person or a program deleted it") from None
            hint(f"webhook {self._webhook_id} is gone: nobody read it for an hour")
            self._refused_ids.clear()
            self._register(self._complete_until - OVERLAP)
            return
        if not items and not self._refused_ids:
            self._complete_until = self._last_contact

    def _pull(self) -> list[dict[str, Any]]:
        body = {"max": MAX_ITEMS_PER_PULL, "waitSeconds": WAIT_SECONDS, "leaseSeconds": LEASE_SECONDS}
        answer = self._api.post("webhooks", self._webhook_id, "pull", body=body, response_seconds=RESPONSE_SECONDS)
        items: list[dict[str, Any]] = answer["items"]
        return items

    def _reconnecting(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, which is repeated until the API answers."""
        seconds, first_failure = MIN_BACKOFF_SECONDS, None
        while True:
            try:
                result = work()
            except Unavailable as error:
                self._status.clear()
                first_failure = first_failure or datetime.now(UTC)
                hint(f"{_clock(datetime.now(UTC))} reconnecting: {error}; last contact {_clock(self._last_contact)}")
                # After an API's restart, listeners must not all come at once.
                time.sleep(seconds * random.uniform(0.5, 1.0))
                seconds = min(MAX_BACKOFF_SECONDS, 2 * seconds)
                continue
            self._last_contact = datetime.now(UTC)
            if first_failure is not None:
                gap = (self._last_contact - first_failure).total_seconds()
                hint(f"{_clock(self._last_contact)} connected again after {gap:.0f} seconds")
            return result

    def _handle(self, item: Mapping[str, Any]) -> None:
        answer = self._receiver.send(item)
        self._status.clear()
        attempt = int(item["headers"].get("webhook-attempt", "1"))
        wait_seconds = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS)) - 1]
        self._show(item, answer, attempt, wait_seconds)
        if answer.is_accepted:
            self._settle("ack", {"ids": [item["id"]]})
            self._refused_ids.discard(item["id"])
        else:
            self._refused_ids.add(item["id"])
            self._settle("nack", {"ids": [item["id"]], "waitSeconds": wait_seconds})

    def _settle(self, route: str, body: Mapping[str, Any]) -> None:
        self._reconnecting(partial(self._api.post, "webhooks", self._webhook_id, route, body=body))

    def _show(self, item: Mapping[str, Any], answer: ForwardResult, attempt: int, wait_seconds: int) -> None:
        headers = item["headers"]
        event_id, event_type = headers["webhook-id"], _type_of(item["body"])
        if self._as_json:
            outcome = {"accepted": answer.is_accepted, "response": answer.text, "milliseconds": answer.milliseconds}
            row = {"event": event_id, "type": event_type, "attempt": attempt, **outcome, **item}
            typer.echo(escape_json(json.dumps(row, ensure_ascii=False)))
            return
        number = f"  attempt {attempt}" if attempt > 1 else ""
        result = f"  {answer.text} in {answer.milliseconds} ms" if self._receiver.url else ""
        again = "" if answer.is_accepted else f"; comes again in {wait_seconds} s"
        say(f"{_clock(datetime.now(UTC))}  {event_type:<22}  {event_id}{result}{number}{again}")

    def _delete(self) -> None:
        """Delete the webhook; if the API does not answer, it expires an hour after the last pull."""
        if not self._webhook_id:
            return
        try:
            self._api.delete("webhooks", self._webhook_id)
        except NotFound:
            return
        except (ScormWebhooksError, KeyboardInterrupt):
            hint(f"webhook {self._webhook_id} could not be deleted: it ends by itself within an hour")
        else:
            hint(f"webhook {self._webhook_id} is deleted")


def _clock(moment: datetime) -> str:
    """A time of today in the zone of this machine."""
    return moment.astimezone().strftime("%H:%M:%S")


def _type_of(body: str) -> str:
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        return str(json.loads(body)["type"])
    return "?"


@contextmanager
def _ended_by_a_signal() -> Iterator[None]:
    """Let SIGTERM and SIGHUP, as a closed terminal sends it, end the command as Ctrl-C does.

    Ctrl-C is set as well, because commands that a shell starts in the background ignore it.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    handlers: dict[str, Any] = {"SIGINT": signal.default_int_handler, "SIGTERM": interrupt, "SIGHUP": interrupt}
    numbers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    previous = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
