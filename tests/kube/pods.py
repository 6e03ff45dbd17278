"""What became of the release's pods: a watch that runs during all tests."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kube.kubectl import Kubectl
from kube.release import NAME, NAMESPACE, SMALL, STAGES, stage_of


@dataclass(frozen=True)
class End:
    """How a stage's process ended after its pod was asked to: its exit code, and how long it took."""

    pod: str
    stage: str
    code: int
    seconds: float


class PodWatch:
    """Notes every state of every pod of the release. It ends with these tests."""

    def __init__(self, kubectl: Kubectl, folder: Path) -> None:
        self._notes = folder / "pods.json"
        selector = ["--namespace", NAMESPACE, "--selector", f"app.kubernetes.io/instance={NAME}"]
        command = ["kubectl", "get", "pods", *selector, "--watch", "--output", "json"]
        with self._notes.open("wb") as notes:
            self._watch = subprocess.Popen(command, env=kubectl.env, stdout=notes, stderr=subprocess.DEVNULL)

    def ends(self) -> list[End]:
        """Of the pods that were deleted in order: evicted, replaced, or removed by a smaller number."""
        found = {}
        for pod in self._states():
            if end := end_of(pod):
                found[pod["metadata"]["uid"]] = end
        return list(found.values())

    def close(self) -> None:
        self._watch.kill()
        self._watch.wait()

    def _states(self) -> Iterator[dict[str, Any]]:
        """Each state in the file, without an incomplete last one."""
        text, decoder, place = self._notes.read_text(), json.JSONDecoder(), 0
        while place < len(text):
            try:
                pod, place = decoder.raw_decode(text, place)
            except json.JSONDecodeError:
                return
            yield pod
            place += len(text[place:]) - len(text[place:].lstrip())


def end_of(pod: dict[str, Any]) -> End | None:
    metadata, statuses = pod["metadata"], pod["status"].get("containerStatuses", [])
    stage = stage_of(pod)
    ended = statuses[0]["state"].get("terminated") if statuses else None
    if stage not in {*STAGES, *SMALL} or not metadata.get("deletionGracePeriodSeconds") or not ended:
        return None
    asked = time_of(metadata["deletionTimestamp"]) - timedelta(seconds=metadata["deletionGracePeriodSeconds"])
    seconds = (time_of(ended["finishedAt"]) - asked).total_seconds()
    return End(metadata["name"], stage, ended["exitCode"], seconds)


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
