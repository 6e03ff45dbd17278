"""Fakes of endpoints, encryption and telemetry."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fakes.clock import FakeClock
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.outcome import Failure, Response
from streams.core.deliveries.request import Request
from streams.core.encryption import WrongKeys
from streams.core.erasures.erasure import is_erased
from streams.core.errors import InvalidRecord
from streams.core.events.trace import SpanName
from streams.ports.runtime import Span

Endpoint = Callable[[Request], Awaitable[Response | Failure]]


class FakeSender:
    """A `Sender`: each URL has an endpoint, which responds with 200 by default. Keeps every request and its time."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._endpoints: dict[str, Endpoint] = {}
        self.requests: list[Request] = []
        self.sent_at: list[datetime] = []

    async def send(self, request: Request) -> Response | Failure:
        self.requests.append(request)
        self.sent_at.append(self._clock.now())
        response = self._endpoints.get(request.url)
        return await response(request) if response else Response(200, {})

    def put(self, url: str, endpoint: Endpoint) -> None:
        self._endpoints[url] = endpoint

    def responses(self, url: str, *script: Response | Failure) -> None:
        """Set the responses, in order; the last one repeats."""
        left = list(script)

        async def endpoint(_: Request) -> Response | Failure:
            return left.pop(0) if len(left) > 1 else left[0]

        self.put(url, endpoint)

    def hangs(self, url: str, then: Response | Failure | None = None) -> asyncio.Event:
        """Send no response before the returned event is set."""
        release = asyncio.Event()

        async def endpoint(_: Request) -> Response | Failure:
            await release.wait()
            return then or Response(200, {})

        self.put(url, endpoint)
        return release

    def to(self, url: str) -> list[Request]:
        return [request for request in self.requests if request.url == url]


class FakeEncryption:
    """An `Encryption`: a ciphertext is `encrypted:` and the text."""

    def encrypt(self, plain: str) -> str:
        return "encrypted:" + plain

    def reencrypt(self, ciphertext: str) -> str:
        return self.encrypt(self.decrypt(ciphertext))

    def decrypt(self, ciphertext: str) -> str:
        if not ciphertext.startswith("encrypted:"):
            raise InvalidRecord("no encryption key fits")
        return ciphertext.removeprefix("encrypted:")

    def decrypt_headers(self, ciphertext: str | None) -> Mapping[str, str]:
        headers: dict[str, str] = json.loads(self.decrypt(ciphertext)) if ciphertext else {}
        return headers


@dataclass
class FakeErasedLearners:
    """An `ErasedLearners`: each learner's time; it is `current`, or waits until it is."""

    erased_at: dict[str, datetime] = field(default_factory=dict)
    current: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.current.set()

    async def is_erased(self, delivery: Delivery) -> bool:
        await self.wait_until_current()
        return self.is_erased_now(delivery)

    def is_current(self) -> bool:
        return self.current.is_set()

    async def wait_until_current(self) -> None:
        await self.current.wait()

    def is_erased_now(self, delivery: Delivery) -> bool:
        learner_id = delivery.subjects.learner_id
        return is_erased(self.erased_at.get(learner_id or ""), delivery.first_seen_at, delivery.body)


@dataclass
class FakeEncryptionCheck:
    """An `EncryptionCheck`; `wrong` keys cannot decrypt it."""

    wrong: bool = False
    ciphertext: str = "encrypted:check 1"

    async def require_right_keys(self) -> str:
        if self.wrong:
            raise WrongKeys
        return self.ciphertext

    async def reencrypt(self) -> None:
        self.ciphertext += "+"


@dataclass(eq=False)
class FakeSpan:
    """A `Span` that is among `ended` after its end. What follows has its own parent, so that tests can compare it."""

    name: SpanName
    trace_parent: str | None
    ended: list["FakeSpan"] = field(repr=False)
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    problem: str | None = None
    is_recording: bool = True

    def end(self, attributes: Mapping[str, str | int], problem: str | None = None) -> None:
        assert self not in self.ended, "a span ends once"
        self.attributes, self.problem = attributes, problem
        self.ended.append(self)


@dataclass
class FakeTelemetry:
    """A `Telemetry`: counts by metric, with their labels, keeps the log lines (event, fields) and the ended spans."""

    counts: Counter[str] = field(default_factory=Counter)
    gauges: dict[str, float] = field(default_factory=dict)
    # Counts and gauges with labels, by the metric with its labels as Prometheus writes them.
    series: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    replaced: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)
    observed: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    logged: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    spans: list["FakeSpan"] = field(default_factory=list)
    is_debug_enabled: bool = True
    is_tracing: bool = True

    def count(self, metric: str, amount: float = 1, /, **labels: str) -> None:
        self.counts[metric] += int(amount)
        self.series[_series(metric, labels)] += amount

    def gauge(self, metric: str, value: float, /, **labels: str) -> None:
        self.gauges[metric] = value
        self.series[_series(metric, labels)] = value

    def gauge_all(self, metric: str, values: Mapping[tuple[str, ...], float], /) -> None:
        self.replaced[metric] = dict(values)

    def observe(self, metric: str, value: float, /) -> None:
        self.observed[metric].append(value)

    def span(self, name: SpanName, parent: str | None, started_at: datetime | None = None) -> Span:
        return FakeSpan(name, parent, self.spans, is_recording=self.is_tracing)

    def info(self, event: str, /, **ids: object) -> None:
        self.logged.append((event, ids))

    debug = warning = error = info

    def logged_count(self, event: str) -> int:
        """Number of log lines with this event."""
        return len(self.fields_of(event))

    def fields_of(self, event: str) -> list[dict[str, object]]:
        """The fields of each log line with this event."""
        return [fields for logged, fields in self.logged if logged == event]


def _series(metric: str, labels: Mapping[str, str]) -> str:
    return metric + "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
