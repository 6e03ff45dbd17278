"""A Prometheus with the alerts of the chart, on this machine."""

import json
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from signal import SIGTERM
from typing import Any
from urllib.parse import urlencode

import yaml

import parts
from alerts.rules import RULES
from real.process import Process, free_ports

# As in deploy/prometheus.yml.
EVERY = "15s"
# Debian's Prometheus has its pages at /usr/share: for this process alone, another folder is there.
WITH_PAGES = 'mount --bind "$0" /usr/share && exec "$@"'


class Prometheus:
    """Runs from its creation until `remove`. `watch` names what it reads."""

    def __init__(self, pages: Path | None = None, every: str = EVERY) -> None:
        """Its own pages work if `pages` has their files. It reads and evaluates `every` so often."""
        program = parts.prometheus()
        assert program, "tests/parts.py brings Prometheus"
        self._folder = Path(tempfile.mkdtemp(prefix="prometheus-"))
        self._targets = self._folder / "targets.json"
        self._watched: Mapping[str, int] = {}
        self.watch({})
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        config = {
            "global": {"scrape_interval": every, "evaluation_interval": every},
            "rule_files": [RULES.name],
            "scrape_configs": [
                {
                    "job_name": "scorm-webhooks",
                    "honor_labels": True,
                    "file_sd_configs": [{"files": [self._targets.name], "refresh_interval": "5s"}],
                }
            ],
        }
        shutil.copy(RULES, self._folder)
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command: list[str | Path] = [
            "env",
            f"--chdir={self._folder}",
            program,
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        if pages:
            command = ["unshare", "--map-root-user", "--mount", "sh", "-c", WITH_PAGES, pages, *command]
        self._process = Process(command, log=self._folder / "prometheus.log")
        self._process.wait_until(self._is_ready)

    def watch(self, ports: Mapping[str, int]) -> None:
        """Read the metrics of these stages, at these ports of this machine."""
        if ports == self._watched and self._targets.exists():
            return
        self._watched = dict(ports)
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"stage": stage}} for stage, port in sorted(ports.items())
        ]
        whole = self._folder / "targets.new"
        whole.write_text(json.dumps(targets))
        whole.rename(self._targets)  # atomic

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def rule_errors(self) -> dict[str, str]:
        """What Prometheus could not evaluate, by rule; empty when every rule was evaluated without an error."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return {rule["name"]: rule.get("lastError") or "not evaluated yet" for rule in rules if rule["health"] != "ok"}

    def pending(self) -> set[tuple[str, str]]:
        """The names of the alerts that are about to fire, each with its stage."""
        labels = [alert["labels"] for alert in self._get("alerts")["alerts"]]
        return {(one["alertname"], one.get("stage", "")) for one in labels}

    def value(self, expression: str) -> float:
        """The sum of an expression's series; 0 where there is none."""
        found = self.vector(f"sum({expression})")
        return found[0] if found else 0.0

    def vector(self, expression: str) -> list[float]:
        """The value of each series of an expression."""
        return [float(one["value"][1]) for one in self._get("query", query=expression)["result"]]

    def remove(self) -> None:
        self._process.end(SIGTERM)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=10) as response:
            return json.load(response)["data"]

    def _is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=2).close()
        except OSError:
            return False
        return True
