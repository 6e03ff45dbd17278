"""An operator, who owns the database, makes dumps and restores them."""

import os
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import parts
from e2e.system import System, until
from real.postgres import ROLE

# The stages that use the database, as far as tests start them.
DATABASE_STAGES = ("publish", "record", "meter")


class Operator:
    """Acts on a system, with the rights of the owner of its database and PostgreSQL's own programs."""

    def __init__(self, system: System) -> None:
        folder = parts.postgres()
        assert folder
        self._programs = folder
        self.database_url = system.env["DATABASE_URL"].replace(f"//{ROLE}@", "//postgres@")
        env = {**system.env, "DATABASE_URL": self.database_url, "PATH": f"{folder}:{os.environ['PATH']}"}
        self.system = System(system.folder, env)

    def dump(self, path: Path) -> Path:
        command: Sequence[str | Path] = [self._programs / "pg_dump", "-Fc", "-f", path, self.database_url]
        subprocess.run(command, check=True)
        return path

    def restore(self, dump: Path, since: datetime, *options: str) -> str:
        """Restore a dump; the output of the command."""
        return str(self.system.run(*restore_command(dump, since), *(options or ("--yes",))))

    def restore_when_stopped(self, dump: Path, since: datetime) -> str:
        """Restore a dump, once Kafka has noticed that every stage has ended; the output of the command."""
        done: list[subprocess.CompletedProcess[str]] = []

        def has_restored() -> bool:
            done.append(self.system.attempt(*restore_command(dump, since), "--yes"))
            return done[-1].returncode == 0

        until(has_restored, 120, lambda: done[-1].stderr)
        return done[-1].stdout

    def restore_and_kill(self, dump: Path, since: datetime, text: str) -> None:
        """Start a restore, and kill it once its output has a text."""
        log = self.system.folder / "commands.log"
        start = log.stat().st_size if log.exists() else 0
        self.system.launch_command(*restore_command(dump, since), "--yes")
        until(lambda: text in log.read_text()[start:], 60, lambda: log.read_text()[start:], every=0.005)
        self.system._commands[-1].kill()
        self.system._commands[-1].wait()

    def refusal(self, dump: Path, since: datetime, code: int) -> str:
        """Why a dump is not restored."""
        done = self.system.attempt(*restore_command(dump, since), "--yes")
        assert done.returncode == code, done
        return done.stderr


def restore_command(dump: Path, since: datetime) -> Sequence[str]:
    return ("restore", "--dump", str(dump), "--since", since.isoformat())
