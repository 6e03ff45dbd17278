"""A release of the chart in its namespace, which admits only pods of the Pod Security Standard `restricted`."""

import json
from pathlib import Path
from typing import Any

from chart.generated import CHART
from kube.kubectl import Kubectl
from kube.stores import DATABASE_URL
from streams.adapters.encryption import generate_key

NAME, NAMESPACE, FULLNAME = "events", "webhooks", "events-scorm-webhooks"
VALUES = Path(__file__).with_name("values.yaml")
STAGES = ("fan-out", "deliver", "record", "publish", "meter", "notify", "api")
STATEFUL = ("fan-out", "deliver")
TIMEOUT = "4m"


class Release:
    """What a person does with the release. `values` are set over those of values.yaml."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    def prepare(self) -> None:
        """The namespace and the Secrets of docs/kubernetes.md."""
        restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        metadata = {"name": NAMESPACE, "labels": restricted}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self._secret("webhooks-database", "url", DATABASE_URL)
        self._secret("webhooks-keys", "encryption-keys", generate_key())

    def install(self, **values: Any) -> str:
        return self._helm("install", values)

    def upgrade(self, **values: Any) -> str:
        return self._helm("upgrade", values)

    def rollback(self) -> None:
        self.kubectl.helm("rollback", NAME, "--namespace", NAMESPACE, "--wait", "--timeout", TIMEOUT)

    def test(self) -> str:
        return self.kubectl.helm("test", NAME, "--namespace", NAMESPACE, "--logs")

    def pods(self, stage: str | None = None) -> list[dict[str, Any]]:
        selector = f"app.kubernetes.io/instance={NAME}" + (f",app.kubernetes.io/component={stage}" if stage else "")
        found: list[dict[str, Any]] = self.kubectl.get("pods", "--namespace", NAMESPACE, "--selector", selector)[
            "items"
        ]
        return [pod for pod in found if pod["metadata"]["labels"]["app.kubernetes.io/component"] in STAGES]

    def run(self, *command: str) -> Any:
        """A command of the product in a pod of `api`; its JSON or text."""
        where = ["exec", "--namespace", NAMESPACE, f"deploy/{FULLNAME}-api", "--", "scorm-webhooks"]
        output = self.kubectl.run(*where, *command)
        return json.loads(output) if "--json" in command else output

    def _helm(self, verb: str, values: dict[str, Any]) -> str:
        sets = [part for path, value in values.items() for part in ("--set-json", f"{path}={json.dumps(value)}")]
        wait = ["--wait", "--timeout", TIMEOUT]
        return self.kubectl.helm(verb, NAME, CHART, "--namespace", NAMESPACE, "--values", VALUES, *sets, *wait)

    def _secret(self, name: str, key: str, value: str) -> None:
        metadata = {"name": name, "namespace": NAMESPACE}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {key: value}})
