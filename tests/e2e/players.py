"""Players that commit through the API of a running system, and repeat what was not answered as browsers do."""

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from e2e.system import until

# What a learner does, commit by commit, and whether a browser sends it a second time.
STEPS = ("incomplete", "score 20", "failed", "score 85", "completed", "passed", "incomplete", "passed")
EXPECTED = {"session.launched": 1, "session.scored": 2, "session.completed": 2}
PATIENCE_SECONDS = 90.0


@dataclass
class Players:
    """`sessions` learners at the same time; `commits` counts what was answered with success. `launch`: more fields."""

    api_url: str
    api_key: str
    sessions: int
    seed: int = 0
    commits: int = 0
    errors: list[str] = field(default_factory=list)
    launch: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        numbers = range(self.sessions)
        self._threads = [threading.Thread(target=self._play, args=(number,), daemon=True) for number in numbers]
        for thread in self._threads:
            thread.start()

    def session_id(self, number: int) -> str:
        return f"s-{self.seed}-{number}"

    def have_committed(self, count: int) -> bool:
        return self.commits > count

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()
        assert self.errors == []

    def _play(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        try:
            new = {"packageId": "pkg_1", "learnerId": f"learner-{number}", "sessionId": self.session_id(number)}
            new |= self.launch
            path = urlsplit(self._sent("/v1/sessions", new)["commitUrl"]).path
            for sequence, step in enumerate(STEPS):
                body = {"cmi": {"core": _core(step)}, "commitSequence": sequence}
                for _ in range(rng.choice((1, 1, 2))):
                    self._sent(path, body)
                    self.commits += 1
                time.sleep(rng.random() * 0.2)
        except Exception as error:  # the test reports it: an exception of a thread is lost
            self.errors.append(f"{number}: {error!r}")

    def _sent(self, path: str, body: Any) -> Any:
        """The response to a request, which is repeated until it has one."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < ends:
            try:
                return self._once(path, body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
        raise TimeoutError(path)

    def _once(self, path: str, body: Any) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.api_url).netloc, timeout=10)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.api_key}"}
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
            if response.status in (429, 503):
                raise ConnectionError(response.status)
            assert response.status in (200, 201), (response.status, text)
            return json.loads(text)
        finally:
            connection.close()


def _core(step: str) -> dict[str, Any]:
    kind, _, value = step.partition(" ")
    if kind == "score":
        return {"score": {"raw": value, "max": "100"}}
    return {"lesson_status": step, "session_time": "00:01:00"}


def by_session(bodies: set[bytes]) -> dict[str, dict[str, int]]:
    """How many different events of each type each session has."""
    counts: dict[str, dict[str, int]] = {}
    for event in map(json.loads, bodies):
        of_session = counts.setdefault(event["data"]["sessionId"], {})
        of_session[event["type"]] = of_session.get(event["type"], 0) + 1
    return counts


def expect_all(players: Players, bodies: Any, seconds: float = 90.0) -> None:
    """Wait until the endpoint has each event of each session; no transition may be there twice."""
    names = {players.session_id(number) for number in range(players.sessions)}

    def missing() -> list[str]:
        found = by_session(bodies())
        return [name for name in names if sum(found.get(name, {}).values()) < sum(EXPECTED.values())]

    until(lambda: not missing(), seconds, lambda: f"incomplete: {missing()[:5]} of {len(names)}")
    found = by_session(bodies())
    wrong = {name: found[name] for name in names if found[name] != EXPECTED}
    assert wrong == {}
