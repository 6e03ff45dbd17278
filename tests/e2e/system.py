"""The stages as real processes, on a real broker and database, driven by the command line."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from e2e.commands import ForkedProcess, fork, run_forked
from real.process import free_ports
from scorm_webhooks_cli.root import CLIENT_GROUPS
from streams.core.webhooks.subscriptions_table import PROPAGATION_SECONDS
from streams.runtime.background import BACKGROUND_NAME, RUN_BACKGROUND_ARGUMENTS

STAGES = ("publish", "fan-out", "deliver", "record")
START_SECONDS = 60


def until(
    condition: Callable[[], object],
    seconds: float = 60,
    message: str | Callable[[], str] = "",
    every: float = 0.05,
) -> None:
    """Wait for a condition, checked `every` few seconds; AssertionError with `message` at the deadline.

    `message` may be a function, called at the deadline.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds} s: {message() if callable(message) else message or condition}")
        time.sleep(every)


# The groups and commands that are clients of the API.
API_COMMANDS = {*CLIENT_GROUPS, "operators", "apply", "listen", "reconcile", "tail", "trigger"}
COMMANDS_API = "commands-api"
_ARGUMENTS = {BACKGROUND_NAME: RUN_BACKGROUND_ARGUMENTS, COMMANDS_API: ("api",)}


class System:
    """The processes get `env` and PATH only; their output goes to files in `folder`.

    With `own_sessions` each stage gets its own share of the CPU, as containers do. With `own_imports` it imports what
    it needs, as where it is measured; else it is forked from a process that has imported everything. `python` is that
    of the release which processes run from now on.
    """

    def __init__(
        self,
        folder: Path,
        env: dict[str, str],
        *,
        own_sessions: bool = False,
        own_imports: bool = False,
        python: str | Path = sys.executable,
    ) -> None:
        self.folder = folder
        self.python = python
        self.env = {
            "PATH": os.environ["PATH"],
            # CI runs the installed wheel, not the checkout.
            **({"PYTHONSAFEPATH": "1"} if "PYTHONSAFEPATH" in os.environ else {}),
            "SCORM_WEBHOOKS_ENCRYPTION_KEYS": "bm90LWEtc2VjcmV0LW9ubHktZm9yLXRlc3RzLTEyMzQ=",
            "SCORM_WEBHOOKS_ALLOW_HTTP": "true",
            "SCORM_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8",
            "SCORM_WEBHOOKS_RETRY_SCHEDULE": "1s,2s,3s",
            "SCORM_WEBHOOKS_EVENT_PARTITIONS": "4",
            "SCORM_WEBHOOKS_DELIVERY_PARTITIONS": "4",
            **env,
        }
        self._own_sessions = own_sessions
        # What another path brings has to be imported by a process of its own.
        self._own_imports = own_imports or own_sessions or bool(self.env.get("PYTHONPATH")) or python != sys.executable
        self._processes: dict[str, subprocess.Popen[bytes] | ForkedProcess] = {}
        self._commands: list[ForkedProcess] = []
        self._api_environ: dict[str, str] = {}
        self._api_lock = threading.Lock()
        self._ports: dict[str, int] = {}

    def run(self, *arguments: str, stdin: str | None = None) -> Any:
        """Run a command; return its JSON or text."""
        done = self.attempt(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def attempt(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command; its exit code and what it wrote. One of the API gets an API that no test stops."""
        env = {**self.env, **self.api_for(arguments)}
        if not self.env.get("PYTHONPATH") and self.python == sys.executable:
            return run_forked(arguments, env, self.folder, stdin)
        command = [self.python, "-m", "streams", *arguments]
        return subprocess.run(
            command, env=env, cwd=self.folder, input=stdin, capture_output=True, text=True, timeout=120
        )

    def answer(self, text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command that asks, with a terminal on which a person types `text`."""
        command = [sys.executable, "-m", "streams", *arguments]
        env = {**self.env, **self.api_for(arguments)}
        keyboard, terminal = os.openpty()
        try:
            os.write(keyboard, text.encode())
            return subprocess.run(
                command, env=env, cwd=self.folder, stdin=terminal, capture_output=True, text=True, timeout=120
            )
        finally:
            os.close(terminal)
            os.close(keyboard)

    def launch_command(self, *arguments: str) -> None:
        """Start a command without waiting for its end."""
        env = {**self.env, **self.api_for(arguments)}
        with (self.folder / "commands.log").open("ab") as log, Path(os.devnull).open("rb") as nothing:
            streams = [nothing.fileno(), log.fileno(), log.fileno()]
            self._commands.append(fork(arguments, env, self.folder, streams))

    def api_for(self, arguments: Sequence[str]) -> dict[str, str]:
        """The variable by which a command finds an API of its own. `up`, and a test of the API, have theirs."""
        is_by_api = arguments[0] in API_COMMANDS and tuple(arguments[:2]) != ("events", "publish")
        if not is_by_api or "KAFKA_BOOTSTRAP_SERVERS" not in self.env or "SCORM_WEBHOOKS_API_URL" in self.env:
            return {}
        file = self.folder / "commands-api.json"
        variable = {"SCORM_WEBHOOKS_LOCAL_KEY_FILE": str(file)}
        with self._api_lock:
            self._keep_api(file, variable)
        return variable

    def _keep_api(self, file: Path, variable: dict[str, str]) -> None:
        is_running = COMMANDS_API in self._processes and self.exit_code(COMMANDS_API) is None
        if not is_running or self._api_environ != self.env:
            if is_running:
                self.kill(COMMANDS_API)
            file.unlink(missing_ok=True)
            self._api_environ = dict(self.env)
            self.launch(COMMANDS_API, SCORM_WEBHOOKS_API_PORT="0", **variable)
            until(file.exists, START_SECONDS, f"an API for commands; its log is in {self.folder}")

    def stop_commands_api(self) -> None:
        """Stop the API for commands, which has the database open; the next command that needs one starts it."""
        if COMMANDS_API in self._processes and self.exit_code(COMMANDS_API) is None:
            self.stop(COMMANDS_API)

    # -- integrators -------------------------------------------------------------------------------------------

    def account(self) -> str:
        """Create an account; return its id."""
        return str(self.run("accounts", "create", "Acme", "--email", "ops@acme.example", "--json")["id"])

    def webhook(self, account_id: str, url: str, *more: str) -> dict[str, Any]:
        """Register a webhook that every stage knows."""
        created: dict[str, Any] = self.run("webhooks", "create", "--account", account_id, "--url", url, *more, "--json")
        # On a busy machine it takes longer than the two seconds that an answer waits.
        if not created["propagated"]:
            until(self.has_published, 30, "the webhook is not published")
            time.sleep(PROPAGATION_SECONDS)
        return created

    # -- deliveries, from the database: a command would take half a second each time ------------------------------

    def deliveries(self, webhook_id: str | None = None) -> list[dict[str, Any]]:
        """The deliveries of one webhook, or all; oldest first."""
        which = "WHERE webhook_id = %(webhook_id)s" if webhook_id else ""
        return self._rows(f"SELECT * FROM deliveries {which} ORDER BY first_seen_at, id", webhook_id=webhook_id)

    def states(self, webhook_id: str | None = None) -> dict[str, int]:
        """Number of deliveries by state, of one webhook or all."""
        which = "WHERE webhook_id = %(webhook_id)s" if webhook_id else ""
        rows = self._rows(
            f"SELECT state, count(*) AS count FROM deliveries {which} GROUP BY state", webhook_id=webhook_id
        )
        return {row["state"]: row["count"] for row in rows}

    def let_a_minute_pass(self) -> None:
        """Make mails about pauses due, as a minute does: they wait for further pauses of their account."""
        self._database.execute("UPDATE mails SET due_at = created_at WHERE due_at IS NOT NULL")

    def make_probe_due(self, webhook_id: str) -> None:
        """Make the next probe of a paused webhook due, as an hour does.

        `publish` sets the time of the next one a moment after it sends one: that would undo this.
        """
        is_later = "SELECT 1 FROM webhooks WHERE id = %(id)s AND probe_at > now()"
        until(lambda: self._rows(is_later, id=webhook_id), message="the probe before has not moved the time")
        self._database.execute("UPDATE webhooks SET probe_at = paused_at WHERE id = %s", [webhook_id])

    def has_published(self) -> bool:
        """Whether every webhook change is published."""
        return not self._rows("SELECT * FROM dirty_webhooks")

    def _rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        return self._database.execute(query.encode(), parameters).fetchall()

    @cached_property
    def _database(self) -> "psycopg.Connection[dict[str, Any]]":
        return psycopg.connect(self.env["DATABASE_URL"], autocommit=True, row_factory=dict_row)

    # -- platform engineers -----------------------------------------------------------------------------------

    def prepare(self) -> None:
        self.run("topics", "apply")
        self.run("db", "upgrade")

    def start(self, stages: Iterable[str] = STAGES, **env: str) -> None:
        """Start stages and wait until they are ready."""
        stages = tuple(stages)
        for stage in stages:
            self.launch(stage, **env)
        for stage in stages:
            until(
                partial(self.is_ready, stage),
                START_SECONDS,
                f"{stage} ready; its log is in {self.folder}",
            )

    def launch(self, stage: str, *options: str, **env: str) -> None:
        """Start a stage, or `BACKGROUND`, without waiting."""
        [port] = free_ports(1)
        self._ports[stage] = port
        arguments = [*_ARGUMENTS.get(stage, (stage,)), *options]
        full_env = {**self.env, "SCORM_WEBHOOKS_HEALTH_PORT": str(port), **env}
        with (self.folder / f"{stage}.log").open("ab") as log, Path(os.devnull).open("rb") as nothing:
            if not self._own_imports and "PYTHONPATH" not in env:
                streams = [nothing.fileno(), log.fileno(), log.fileno()]
                self._processes[stage] = fork(arguments, full_env, self.folder, streams)
                return
            self._processes[stage] = subprocess.Popen(
                [self.python, "-m", "streams", *arguments],
                env=full_env,
                cwd=self.folder,
                stdin=nothing,
                stdout=log,
                stderr=log,
                start_new_session=self._own_sessions,
            )

    def exit_code(self, stage: str) -> int | None:
        """None while it runs."""
        return self._processes[stage].poll()

    def is_ready(self, stage: str) -> bool:
        return self.exit_code(stage) is None and self.problem(stage) == ""

    def problem(self, stage: str) -> str:
        """Why the stage is not ready; empty if it is."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self._ports[stage]}/readyz", timeout=2).close()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError as error:
            return str(error)
        return ""

    def metric(self, stage: str, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.metrics(stage).splitlines()
        full = f"scorm_webhooks_{name}"
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == full)

    def metrics(self, stage: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[stage]}/metrics", timeout=20) as response:
            return str(response.read().decode())

    def kill(self, stage: str) -> None:
        """kill -9."""
        self._processes[stage].kill()
        self._processes[stage].wait()

    def stop(self, stage: str) -> int:
        """Send SIGTERM and return the exit code."""
        self.send(stage, signal.SIGTERM)
        return self._processes[stage].wait(timeout=30)

    def health_port(self, stage: str) -> int:
        return self._ports[stage]

    def pid(self, stage: str) -> int:
        return self._processes[stage].pid

    def send(self, stage: str, number: signal.Signals) -> None:
        self._processes[stage].send_signal(number)

    def log(self, stage: str) -> str:
        return (self.folder / f"{stage}.log").read_text(errors="replace")

    def log_events(self, stage: str) -> list[dict[str, Any]]:
        """The stage's JSON log lines, without an incomplete last line."""
        whole = self.log(stage).rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def close(self) -> None:
        for process in (*self._processes.values(), *self._commands):
            process.kill()
            process.wait()
        if "_database" in vars(self):
            self._database.close()


def ownership(system: System) -> list[tuple[float, int]]:
    """Times at which partitions were assigned (+) or revoked (-), with their number."""
    signs = {"partitions_assigned": 1, "partitions_revoked": -1, "partitions_lost": -1}
    return [
        (datetime.fromisoformat(line["timestamp"]).timestamp(), signs[line["event"]] * line["count"])
        for line in system.log_events("deliver")
        if line["event"] in signs
    ]


def owned(system: System) -> int:
    """Number of partitions that `deliver` owns, from its log."""
    return sum(count for _, count in ownership(system))
