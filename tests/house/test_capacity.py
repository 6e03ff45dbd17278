"""docs/capacity.md says how many accounts at every limit the chart's memory holds, and they fit."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from streams.adapters.compact_subscriptions import MAX_CACHE_BYTES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/capacity.md").read_text()
VALUES = yaml.safe_load((ROOT / "deploy/helm/scorm-webhooks/values.yaml").read_text())
STAGES = ("fanOut", "deliver", "publish")
MIB = 1024 * 1024
# A process of each of these stages without webhooks, with its consumers' and producers' buffers.
EMPTY_BYTES = 150 * MIB
LOADED_ACCOUNTS = 40
LOAD = """
import json, os, resource, sys
from dataclasses import replace
from builders import NOON, ciphertext, webhook
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.compact_subscriptions import CompactSubscriptions
from streams.core.events.event_data import EVENT_TYPES
from streams.core.events.event_filter import parse_filter
from streams.core.limits import MAX_SCOPE_IDS_PER_ACCOUNT, MAX_WEBHOOK_CHARACTERS_PER_ACCOUNT, MAX_WEBHOOKS_PER_ACCOUNT
from streams.core.webhooks.subscriptions_table import SubscriptionsTable

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

def full(account):
    ids = MAX_SCOPE_IDS_PER_ACCOUNT // MAX_WEBHOOKS_PER_ACCOUNT
    characters = MAX_WEBHOOK_CHARACTERS_PER_ACCOUNT // MAX_WEBHOOKS_PER_ACCOUNT
    secret = ciphertext("s" * 100)
    for number in range(MAX_WEBHOOKS_PER_ACCOUNT):
        yield webhook(
            id=f"wh_{account:013}{number:013}",
            account_id=f"acc_{account:026}",
            url="https://a.example/" + "u" * (characters // 2 - 18),
            encrypted_headers="h" * (characters // 4),
            filter=parse_filter({"learnerId": "l" * (characters // 4 - 16)}),
            secrets=(secret, secret),
            event_types=frozenset(EVENT_TYPES),
            packages=frozenset(f"pkg_{account}_{number}_{one}" for one in range(ids)),
        )

table = SubscriptionsTable(CompactSubscriptions(AvroCodec()))
for known in full(0):
    table.apply_webhook(0, known, NOON)
sizes = [resident()]
for account in range(1, int(sys.argv[1]) + 1):
    for known in full(account):
        table.apply_webhook(0, known, NOON)
sizes.append(resident())
for account in range(int(sys.argv[1]) + 1):
    assert len(table.of_account(f"acc_{account:026}")) == MAX_WEBHOOKS_PER_ACCOUNT
sizes.append(resident())
print(json.dumps(sizes))
"""


def test_the_accounts_of_the_page_fit_the_memory_of_the_chart() -> None:
    [accounts] = re.findall(r"hold (\d+) accounts at every limit", PAGE)
    [account_bytes] = re.findall(r"An account at every limit takes (\d\.\d) MB", PAGE)
    [cache] = re.findall(r"(\d+) MiB of the webhooks that were used last", PAGE)
    assert int(cache) * MIB == MAX_CACHE_BYTES
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, str(LOADED_ACCOUNTS)],
        cwd=ROOT,
        env={"PYTHONPATH": "tests"},
        check=True,
        capture_output=True,
        text=True,
    )
    before, packed, cached = json.loads(loaded.stdout)
    assert (packed - before) / LOADED_ACCOUNTS <= float(account_bytes) * 1e6
    assert cached - packed <= 1.25 * MAX_CACHE_BYTES
    for stage in STAGES:
        limit = int(VALUES["stages"][stage]["resources"]["limits"]["memory"].removesuffix("Mi")) * MIB
        assert EMPTY_BYTES + MAX_CACHE_BYTES + int(accounts) * float(account_bytes) * 1e6 <= limit, stage
