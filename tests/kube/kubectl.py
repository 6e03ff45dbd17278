"""kubectl and helm, as a person calls them."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import parts

COMMAND_SECONDS = 300.0
Resource = dict[str, Any]


class Kubectl:
    """Runs the two programs with access to one cluster."""

    def __init__(self, config: Path) -> None:
        programs = parts.KUBE / "bin"
        self.env = {
            # `scorm-webhooks` is beside the Python of these tests.
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "KUBECONFIG": str(config),
            "HOME": str(config.parent),
        }

    def attempt(
        self, program: str, *arguments: str | Path, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [program, *arguments],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )

    def run(self, *arguments: str | Path, stdin: str | None = None) -> str:
        return self._checked("kubectl", arguments, stdin)

    def helm(self, *arguments: str | Path) -> str:
        return self._checked("helm", arguments, None)

    def shell(self, command: str) -> str:
        """A line of a document, as it is."""
        return self._checked("bash", ["-c", command], None)

    def succeeds(self, *arguments: str) -> bool:
        return self.attempt("kubectl", *arguments).returncode == 0

    def get(self, *arguments: str) -> Any:
        return json.loads(self.run("get", *arguments, "--output", "json"))

    def apply(self, *resources: Resource) -> None:
        manifest = {"apiVersion": "v1", "kind": "List", "items": list(resources)}
        self.run("apply", "--filename", "-", stdin=json.dumps(manifest))

    def wait(self, kind: str, name: str, condition: str, seconds: float) -> None:
        self.run("wait", f"{kind}/{name}", f"--for=condition={condition}", f"--timeout={seconds:.0f}s")

    def _checked(self, program: str, arguments: Sequence[str | Path], stdin: str | None) -> str:
        done = self.attempt(program, *arguments, stdin=stdin)
        assert done.returncode == 0, (
            f"{program} {' '.join(map(str, arguments))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
        return done.stdout
