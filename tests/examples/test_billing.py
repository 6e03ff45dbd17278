"""The lines of an invoice are what `GET /v1/usage` counts."""

import csv
import io
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest

from e2e.system import until
from examples.conftest import Connect
from examples.customer import Customer
from examples.events import Event, launched
from examples.program import RECEIVERS, Program

pytestmark = pytest.mark.e2e

CLIENTS = (None, "dsp_1", "dsp:2", "-3")
MILLISECOND = timedelta(milliseconds=1)
# An event may be a month late. It may not be of a time to come.
NOW = datetime.now(UTC)
MIDNIGHT = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
TIMES = (MIDNIGHT - MILLISECOND, MIDNIGHT, NOW)
MONTHS = sorted({f"{time:%Y-%m}" for time in TIMES})
PRICE = Decimal("0.35")


def launches() -> list[Event]:
    events = []
    for number, (client, at, package) in enumerate(product(CLIENTS, TIMES, ("pkg_1", "pkg_2"))):
        dispatch = {"dispatchId": client} if client else {}
        events += [launched(2 * number + n, at, packageId=package, **dispatch) for n in range(1 + number % 2)]
    return events


def invoice(program: Program, month: str) -> dict[str, tuple[int, Decimal]]:
    """The launches and the amount of each client."""
    command: list[str | Path] = [sys.executable, RECEIVERS / "billing.py", month]
    env = {"PATH": program.env["PATH"], "DATA_DIR": program.env["DATA_DIR"], "PRICE": str(PRICE)}
    printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    lines = list(csv.DictReader(io.StringIO(printed)))
    assert {line["month"] for line in lines} <= {month}
    return {line["client"]: (int(line["launches"]), Decimal(line["amount"])) for line in lines}


def usage(customer: Customer, month: str) -> Counter[str]:
    counted: Counter[str] = Counter()
    for row in customer.get(f"/v1/usage/{month}?limit=100")["data"]:
        counted[row.get("dispatchId", "(none)")] += row["launches"]
    return counted


def test_an_invoice_says_what_the_api_says(connect: Connect) -> None:
    events = launches()
    billing = connect("billing", "session.launched")
    billing.publish_through_kills(events)
    until(lambda: sum(usage(billing, month).total() for month in MONTHS) == len(events), 60, "all launches are metered")
    for month in MONTHS:
        lines = invoice(billing.program, month)
        assert {client: launches for client, (launches, _) in lines.items()} == usage(billing, month)
        assert all(amount == launches * PRICE for launches, amount in lines.values())
    months = {one["month"]: one["launches"] for one in billing.get("/v1/usage?months=12")["months"]}
    assert all(months[month] == usage(billing, month).total() for month in MONTHS)
