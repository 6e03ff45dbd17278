"""Requests of real SCORM players, recorded in Chromium, each with the events that it must cause."""

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from streams.features.course_sessions.scorm_time import parse_length

FOLDER = Path(__file__).with_name("recorded")


@dataclass(frozen=True)
class Recorded:
    """One line of a recording: a launch, a commit or a preflight."""

    kind: str
    session: int
    fields: Mapping[str, Any]

    @property
    def body(self) -> bytes:
        if "bodyBase64" in self.fields:
            return b64decode(self.fields["bodyBase64"])
        if "bodyRepeat" in self.fields:
            text, times = self.fields["bodyRepeat"]
            return str(text * times).encode()
        return str(self.fields["body"]).encode()

    @property
    def headers(self) -> dict[str, str]:
        return {name: value for name, value in self.fields["headers"].items() if name != "content-length"}

    @property
    def is_stored(self) -> bool:
        """False when the recorder played a server that fails: the endpoint never had this request."""
        return int(self.fields.get("answered", {}).get("status", 200)) < 400

    @property
    def expected(self) -> list[tuple[str, dict[str, Any]]]:
        return sorted((one["type"], comparable(one.get("data", {}))) for one in self.fields["expect"])


@cache
def cases() -> Mapping[str, Sequence[Recorded]]:
    """The requests of each case, in the order of arrival."""
    return {case: list(lines) for case, lines in groupby(_lines(), lambda one: str(one.fields["case"]))}


def _lines() -> Iterator[Recorded]:
    for path in sorted(FOLDER.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            if fields["kind"] in ("launch", "commit", "preflight"):
                yield Recorded(fields["kind"], fields["session"], fields)


def comparable(data: Mapping[str, Any]) -> dict[str, Any]:
    """An event's result: without its subjects, its sequence and what was before; with its duration in seconds."""
    left_out = ("sessionId", "packageId", "dispatchId", "learnerId", "sequence")
    found = {name: value for name, value in data.items() if name not in left_out and not name.startswith("previous")}
    if "totalTime" in found:
        found["totalTime"] = parse_length(found["totalTime"])
    return found
