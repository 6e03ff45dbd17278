"""Runs the fast tests on every further Python that the package claims and this machine has.

As root it takes the Python of the image's base and of the next Debian; it also takes `python3.11` to `python3.14` from
PATH and from pyenv. The Python of .venv is left out: it has run every test. This file uses the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import parts

ROOT = parts.ROOT
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
FAST = ["--quiet", "-p", "no:cacheprovider", "-m", "not real and not e2e and not slow"]
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
# Without CI: in the base there is neither Node nor Java, and the tests with them are skipped.
ENV = {name: value for name, value in os.environ.items() if name not in ("CI", "VIRTUAL_ENV")}
ENV["UV_CACHE_DIR"] = str(parts.CACHE / "uv")
# A mount namespace of its own, in which the base has this checkout, its fonts and uv; then the command in it.
IN_BASE = """\
set -e
root=$1 checkout=$2 cache=$3 uv=$4; shift 4
mount -t tmpfs tmpfs "$root/tmp"
for folder in /dev /proc /usr/share/fonts "$checkout" "$cache"; do
  [ -d "$folder" ] || continue
  mkdir -p "$root$folder"
  mount --rbind "$folder" "$root$folder"
done
cp "$uv" "$root/usr/local/bin/uv"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
exec chroot "$root" sh -c 'cd "$0" && exec "$@"' "$checkout" "$@"
"""


class Python:
    """A Python; `within` goes before each command, and brings it to where this Python is."""

    def __init__(self, program: str, uv: str, within: list[str] | None = None) -> None:
        self._program = program
        self._uv = uv
        self._within = within or []

    def version(self) -> str:
        """Such as 3.13; empty if it does not run, as a shim of pyenv may."""
        said = "import sys; print('%d.%d' % sys.version_info[:2])"
        command = [*self._within, self._program, "-c", said]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def run_fast_tests(self, arguments: list[str]) -> bool:
        venv = f".venv-pythons/{self.version()}"
        pip = [self._uv, "pip", "install", "--quiet", "--python", venv]
        self._run(self._uv, "venv", "--quiet", "--clear", "--python", self._program, venv)
        self._run(*pip, "--require-hashes", "-r", "requirements/test.txt")
        self._run(*pip, "--no-deps", "-e", ".")
        return self._run(f"{venv}/bin/pytest", *FAST, *arguments, check=False)

    def try_wheels(self, wheels: Path, venv: Path, *produce: str) -> None:
        """Install the server and the producer in an empty environment; play the demo, then a producer."""
        self._run(self._uv, "venv", "--quiet", "--python", self._program, str(venv))
        pip = [self._uv, "pip", "install", "--quiet", "--python", str(venv), "-c", "requirements/run.txt"]
        [producer] = wheels.glob("scorm_webhooks_producer-*.whl")
        [server] = wheels.glob("scorm_webhooks-*.whl")
        self._run(*pip, f"{server}[demo]", str(producer))
        self._run(str(venv / "bin" / "scorm-webhooks"), "demo", "--events", "50", "--exit")
        self._run(str(venv / "bin" / "python"), "-c", *produce)

    def _run(self, *command: str, check: bool = True) -> bool:
        return subprocess.run([*self._within, *command], cwd=ROOT, env=ENV, check=check).returncode == 0


def pythons(uv: str) -> Iterator[tuple[str, Python]]:
    """The further Pythons by version, one of each, the image's first."""
    seen = {Python(str(ROOT / ".venv" / "bin" / "python"), uv).version()}
    on_path = [Python(f"python{version}", uv) for version in VERSIONS if shutil.which(f"python{version}")]
    of_pyenv = [
        Python(str(program), uv) for version in VERSIONS for program in sorted(PYENV.glob(f"{version}.*/bin/python3"))
    ]
    bases = [base for base in (parts.image_base(), parts.next_python_base()) if base] if os.geteuid() == 0 else []
    for python in chain((python_of_base(uv, base) for base in bases), on_path, of_pyenv):
        version = python.version()
        if version in VERSIONS and version not in seen:
            seen.add(version)
            yield version, python


def python_of_base(uv: str, archive: Path) -> Python:
    """A Debian's Python, in a chroot of it."""
    program = shutil.which(uv)
    assert program, f"{uv} runs"
    root = archive.with_suffix("")
    if not root.exists():
        fresh = root.with_suffix(".fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", fresh, "--exclude=./dev/*"], check=True)
        fresh.rename(root)  # atomic
    cache = Path(ENV["UV_CACHE_DIR"])
    cache.mkdir(parents=True, exist_ok=True)
    into: list[str | Path] = ["unshare", "--mount", "sh", "-c", IN_BASE, "sh", root, ROOT, cache, program]
    python = Python("/usr/bin/python3", "/usr/local/bin/uv", [str(word) for word in into])
    assert python.version(), "the base has a Python that runs"
    return python


def main(uv: str, *arguments: str) -> int:
    failed = 0
    for version, python in pythons(uv):
        print(f"Python {version}: the fast tests", flush=True)
        start = time.monotonic()
        failed += not python.run_fast_tests(list(arguments))
        print(f"Python {version}: {time.monotonic() - start:.0f} s", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
