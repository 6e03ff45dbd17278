"""A release of the chart in its namespace, which admits only pods of the Pod Security Standard `restricted`."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chart_files import CHART, ROOT
from kube.documented import command
from kube.kubectl import Kubectl, Resource
from kube.stores import DATABASE_URL

NAME, NAMESPACE, FULLNAME = "events", "webhooks", "events-scorm-webhooks"
VALUES = Path(__file__).with_name("values.yaml")
SMALL_VALUES = ROOT / "deploy" / "helm" / "values" / "small.yaml"
STAGES = ("fan-out", "deliver", "record", "publish", "maintain", "meter", "notify", "api")
SMALL = ("fan-out", "deliver", "record", "api", "background")
TIMEOUT = "4m"
# The image of this checkout, which the node has.
IMAGE = {
    "image.repository": "localhost/scorm-webhooks",
    "image.tag": "new",
    "image.digest": "",
    "image.pullPolicy": "Never",
}
# In the commands of the document.
DOCUMENTED_DATABASE = "postgresql://webhooks:password@postgres/webhooks"
REVISION = re.compile(r"(?<= )\d+(?= )")
COMMAND_OF_THE_NOTES = r"^     (\S.*)$"


class Release:
    """What a person does with the release. `chart` names one in a registry, in the words of helm."""

    def __init__(self, kubectl: Kubectl, *chart: str, is_small: bool = False) -> None:
        self.kubectl = kubectl
        self._chart = chart
        self.stages = SMALL if is_small else STAGES
        # The last of two equal values counts.
        self._values = (*(("--values", SMALL_VALUES) if is_small else ()), "--values", VALUES)

    def prepare(self) -> None:
        """The namespace and the Secrets, by the document's commands."""
        self.kubectl.shell(command("kubectl create namespace"))
        for mode in ("enforce", "warn"):
            self.kubectl.run("label", "namespace", NAMESPACE, f"pod-security.kubernetes.io/{mode}=restricted")
        database = command("kubectl create secret generic webhooks-database")
        self.kubectl.shell(database.replace(DOCUMENTED_DATABASE, DATABASE_URL))
        self.kubectl.shell(command("kubectl create secret generic webhooks-keys"))

    def install(self) -> str:
        """From the registry. The chart names its image itself."""
        return self._helm("install", *self._chart)

    def upgrade(self, *options: str, **values: Any) -> str:
        """To this checkout's chart and image. `values` are set over those of values.yaml."""
        return self._helm("upgrade", CHART, *sets(values), *options)

    def render(self, *options: str) -> str:
        """The objects of this checkout's chart, as `helm template` writes them for another program."""
        return self.kubectl.helm(
            "template", NAME, CHART, "--namespace", NAMESPACE, *self._values, *sets({}), "--skip-tests", *options
        )

    def rollback(self) -> None:
        """To the revision before this one that worked."""
        history = json.loads(self.kubectl.helm("history", NAME, "--namespace", NAMESPACE, "--output", "json"))
        worked = [revision["revision"] for revision in history if revision["status"] == "superseded"]
        rollback = REVISION.sub(str(worked[-1]), command("helm rollback"))
        self.kubectl.shell(f"{rollback} --timeout {TIMEOUT}")

    def test(self) -> str:
        return self.kubectl.helm("test", NAME, "--namespace", NAMESPACE, "--logs")

    def pods(self, stage: str | None = None) -> list[dict[str, Any]]:
        selector = f"app.kubernetes.io/instance={NAME}" + (f",app.kubernetes.io/component={stage}" if stage else "")
        found: list[dict[str, Any]] = self.kubectl.get("pods", "--namespace", NAMESPACE, "--selector", selector)[
            "items"
        ]
        return [pod for pod in found if stage_of(pod) in self.stages]

    def settings(self) -> list[Resource]:
        """The ConfigMaps of every revision, each named by its content."""
        selector = "app.kubernetes.io/component=settings"
        found: list[Resource] = self.kubectl.get("configmaps", "--namespace", NAMESPACE, "--selector", selector)[
            "items"
        ]
        return found

    def run(self, *words: str) -> Any:
        """A command of the product in a pod of `api`; its JSON or text."""
        where = ["exec", "--namespace", NAMESPACE, f"deploy/{FULLNAME}-api", "--", "scorm-webhooks"]
        output = self.kubectl.run(*where, *words)
        return json.loads(output) if "--json" in words else output

    def _helm(self, verb: str, chart: str | Path, *options: str) -> str:
        fixed = ("--namespace", NAMESPACE, *self._values, "--wait", "--timeout", TIMEOUT)
        # The last of two equal options counts.
        return self.kubectl.helm(verb, NAME, chart, *fixed, *options)


def sets(values: Mapping[str, Any]) -> list[str]:
    """helm's options for these values, and for the image of this checkout."""
    return [
        part for path, value in (IMAGE | dict(values)).items() for part in ("--set-json", f"{path}={json.dumps(value)}")
    ]


def stage_of(pod: Resource) -> str:
    """The stage, or the name of a Job or a test."""
    return str(pod["metadata"]["labels"]["app.kubernetes.io/component"])
