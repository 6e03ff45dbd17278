"""The customers' endpoints, the secrets that they share with us, and the operator who looks on."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fakes.clock import FakeClock
from streams.core.encryption import WrongKeys
from streams.core.errors import InvalidRecord
from streams.core.outcome import Failure, Response
from streams.core.request import Request

Endpoint = Callable[[Request], Awaitable[Response | Failure]]


class FakeSender:
    """A `Sender`: each URL has an endpoint, a new one answers 200; every request is kept, with its time."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._endpoints: dict[str, Endpoint] = {}
        self.requests: list[Request] = []
        self.sent_at: list[datetime] = []

    async def send(self, request: Request) -> Response | Failure:
        self.requests.append(request)
        self.sent_at.append(self._clock.now())
        answer = self._endpoints.get(request.url)
        return await answer(request) if answer else Response(200, {})

    def put(self, url: str, endpoint: Endpoint) -> None:
        self._endpoints[url] = endpoint

    def answers(self, url: str, *script: Response | Failure) -> None:
        """The answers in turn; the last one stays."""
        left = list(script)

        async def endpoint(_: Request) -> Response | Failure:
            return left.pop(0) if len(left) > 1 else left[0]

        self.put(url, endpoint)

    def hangs(self, url: str, then: Response | Failure | None = None) -> asyncio.Event:
        """Nothing is answered before the event is set."""
        release = asyncio.Event()

        async def endpoint(_: Request) -> Response | Failure:
            await release.wait()
            return then or Response(200, {})

        self.put(url, endpoint)
        return release

    def to(self, url: str) -> list[Request]:
        return [request for request in self.requests if request.url == url]


class FakeSealed:
    """`Sealed` and `Sealer`: what is sealed begins with `sealed:`."""

    def seal(self, plain: str) -> str:
        return "sealed:" + plain

    def reseal(self, sealed: str) -> str:
        return self.seal(self.secret(sealed))

    def secret(self, sealed: str) -> str:
        if not sealed.startswith("sealed:"):
            raise InvalidRecord("no key of ours fits")
        return sealed.removeprefix("sealed:")

    def headers(self, sealed: str | None) -> Mapping[str, str]:
        headers: dict[str, str] = json.loads(self.secret(sealed)) if sealed else {}
        return headers


@dataclass
class FakeEncryptionCheck:
    """An `EncryptionCheck`; with `wrong` keys nothing opens it."""

    wrong: bool = False
    sealed: str = "sealed:check 1"

    async def verified(self) -> str:
        if self.wrong:
            raise WrongKeys
        return self.sealed

    async def reseal(self) -> None:
        self.sealed += "+"


@dataclass
class FakeTelemetry:
    """A `Telemetry`: counts by metric, with their labels, and the facts that were told."""

    counts: Counter[str] = field(default_factory=Counter)
    gauges: dict[str, float] = field(default_factory=dict)
    observed: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    facts: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    is_heard: bool = True

    def count(self, metric: str, amount: float = 1, /, **labels: str) -> None:
        self.counts[metric] += int(amount)

    def gauge(self, metric: str, value: float, /, **labels: str) -> None:
        self.gauges[metric] = value

    def observe(self, metric: str, value: float, /) -> None:
        self.observed[metric].append(value)

    def tell(self, fact: str, /, **ids: object) -> None:
        self.facts.append((fact, ids))

    debug = warning = error = tell

    def told(self, fact: str) -> int:
        """How often this was told."""
        return sum(1 for told, _ in self.facts if told == fact)
