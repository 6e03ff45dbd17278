"""A certified OpenID Connect provider on loopback."""

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import parts
from conftest import left_out
from real.process import Process

SCRIPT = Path(__file__).parent / "provider.js"


@contextmanager
def running_provider(client: Mapping[str, object], folder: Path) -> Iterator[str]:
    """Run the provider with one client; its issuer."""
    packages = parts.oidc()
    if packages is None:
        left_out("the OpenID Connect provider")
    log = folder / "provider.log"
    process = Process(["node", SCRIPT, packages, json.dumps(client)], log)

    def lines() -> list[str]:
        return [line for line in log.read_text().splitlines(keepends=True) if line.startswith("http")]

    process.wait_until(lambda: any(line.endswith("\n") for line in lines()))
    try:
        yield lines()[0].strip()
    finally:
        process.end(signal.SIGKILL)
