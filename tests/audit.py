"""Looks for advisories about every locked package, at osv.dev.

`python3 tests/audit.py PIP_AUDIT` exits with 0 if there are none, 1 if there are some, 2 if nobody could be asked. A
release with a known advisory is asked about first: a service that knows nothing would call every package safe. This
file uses the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = (
    "requirements/run.txt",
    "requirements/test.txt",
    "requirements/build.txt",
    "examples/receivers/requirements.txt",
)
# CVE-2014-0012 and others.
CONTROL = "jinja2==2.4.1"
SAFE, FOUND, NOT_ASKED = range(3)
OSV = "https://api.osv.dev/v1/query"
SERVICE_SECONDS = 15


class NotAsked(Exception):
    """The service did not answer."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/audit.py", description=__doc__)
    parser.add_argument("pip_audit", help="the program")
    parser.add_argument("locks", nargs="*", default=LOCKS, help="lock files (default: all)")
    parser.add_argument("--osv-url", default=OSV, help=f"the service (default: {OSV})")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            control = Path(folder) / "control.txt"
            control.write_text(CONTROL)
            if not advisories(given.pip_audit, given.osv_url, control, "--no-deps"):
                raise NotAsked(f"it knows nothing of {CONTROL}, which has known advisories")
        found = {lock: advisories(given.pip_audit, given.osv_url, ROOT / lock) for lock in given.locks}
    except NotAsked as error:
        print(f"nothing was audited: {given.osv_url}: {error}", file=sys.stderr)
        return NOT_ASKED
    for lock, lines in found.items():
        print(f"{lock}: {len(lines)} found", *lines, sep="\n  ")
    return FOUND if any(found.values()) else SAFE


def advisories(program: str, url: str, lock: Path, *more: str) -> list[str]:
    """A line for each advisory about a package of a lock file. Raises `NotAsked`."""
    asked = ["--vulnerability-service", "osv", "--osv-url", url, "--timeout", str(SERVICE_SECONDS)]
    silent = ["--disable-pip", "--progress-spinner", "off", "--desc", "off", "--format", "json"]
    done = subprocess.run(
        [program, *asked, *silent, "--requirement", str(lock), *more], capture_output=True, text=True, check=False
    )
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise NotAsked((done.stderr.strip() or "no answer").splitlines()[-1]) from None
    if skipped := [one for one in packages if "skip_reason" in one]:
        raise NotAsked(skipped[0]["skip_reason"])
    return [
        f"{package['name']} {package['version']}: {advisory['id']}, "
        f"fixed in {', '.join(advisory['fix_versions']) or 'no release'}"
        for package in packages
        for advisory in package["vulns"]
    ]


if __name__ == "__main__":
    sys.exit(main())
