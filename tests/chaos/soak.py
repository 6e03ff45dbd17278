"""`python -m chaos.soak`: a whole system under a steady load for hours; its memory and its open files must not grow."""

import argparse
import random
import signal
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from itertools import cycle
from pathlib import Path
from statistics import linear_regression, median

from chaos.scenario import Row, Scenario, ScenarioRun, perform
from chaos.supervisor import WORLD
from chaos.system import FastSessionKafka, LoadedSystem
from chaos.table import table
from e2e.system import STAGES, until
from real.postgres import PRODUCTION, Postgres
from real.process import free_ports

OTHERS = ("meter", "notify", "api")
EVERY = (*WORLD, *OTHERS)
# Kills fill the first part of the time. In the rest no process may end, and after its first quarter none may grow.
KILLS_SHARE = 0.4
WARM_UP_SHARE = 0.25
# `deliver` remembers the last 100 000 deliveries, 20 MB: at 340 a second they come in five minutes.
MIN_WARM_UP_MINUTES = 6.0
MIN_MINUTES = 20.0
KILL_EVERY_SECONDS = 60
CHANGE_EVERY_SECONDS = 60
SAMPLE_EVERY_SECONDS = 10
READ_EVERY_SECONDS = 1
# What a process may gain: what the allocator and a longer backlog leave behind, and no leak of a record each.
MEMORY_MB_AN_HOUR = 12.0
OPEN_FILES = 10
READY_SECONDS = 90
MEGABYTE = 1024.0


@dataclass(frozen=True)
class Sample:
    """A process at a moment, in hours since the first one."""

    hours: float
    memory_mb: float
    open_files: int


@dataclass(frozen=True)
class Growth:
    """What a process gained while it was watched."""

    stage: str
    memory_mb: float
    mb_an_hour: float
    open_files: float
    more_open_files: float

    @property
    def is_bounded(self) -> bool:
        return self.mb_an_hour <= MEMORY_MB_AN_HOUR and self.more_open_files <= OPEN_FILES


def growth(stage: str, samples: list[Sample]) -> Growth:
    """By the line through all samples for memory; for files the last quarter against the first."""
    quarter = max(1, len(samples) // 4)
    first, last = (median(one.open_files for one in part) for part in (samples[:quarter], samples[-quarter:]))
    slope = linear_regression([one.hours for one in samples], [one.memory_mb for one in samples]).slope
    return Growth(stage, median(one.memory_mb for one in samples), slope, last, last - first)


def soak(scenario_run: ScenarioRun, minutes: float, growths: list[Growth]) -> None:
    """Kills for a while, then none while every process is watched."""
    loaded = scenario_run.loaded
    account = loaded.account()
    changing = loaded.webhook(account, "soak-changing")
    scenario_run.add(account)
    with others(scenario_run) as api_url, a_reader(scenario_run, api_url, account):
        began = time.monotonic()
        progress = partial(_progress, scenario_run, began, minutes)
        until_minute = partial(_ticks, began)
        for stage, _ in zip(cycle(EVERY), until_minute(minutes * KILLS_SHARE, KILL_EVERY_SECONDS), strict=False):
            _kill(scenario_run, stage)
            progress(f"{stage} killed")
        for stage in EVERY:
            until(partial(loaded.system.is_ready, stage), READY_SECONDS, f"{stage} ready")
        pids = {stage: loaded.system.pid(stage) for stage in EVERY}
        samples: dict[str, list[Sample]] = defaultdict(list)
        warm_up = max(MIN_WARM_UP_MINUTES, minutes * (1 - KILLS_SHARE) * WARM_UP_SHARE)
        warm = minutes * KILLS_SHARE + warm_up
        for number, _ in enumerate(until_minute(minutes, SAMPLE_EVERY_SECONDS)):
            if number * SAMPLE_EVERY_SECONDS % CHANGE_EVERY_SECONDS == 0:
                scenario_run.change(changing)
                progress("")
            elapsed = time.monotonic() - began
            if elapsed < warm * 60:
                continue
            for stage, pid in pids.items():
                samples[stage].append(Sample(elapsed / 3600, memory_mb(pid), open_files(pid)))
        assert pids == {stage: loaded.system.pid(stage) for stage in EVERY}, "a process ended by itself"
        growths += [growth(stage, samples[stage]) for stage in EVERY]


@contextmanager
def others(scenario_run: ScenarioRun) -> Iterator[str]:
    """The stages that scenarios do without. The URL of the API."""
    system = scenario_run.loaded.system
    api_port, smtp_port = free_ports(2)
    settings = {
        "SCORM_WEBHOOKS_API_PORT": str(api_port),
        # Nobody listens: `notify` tries again and again.
        "SMTP_URL": f"smtp://127.0.0.1:{smtp_port}?tls=none",
        "SCORM_WEBHOOKS_MAIL_FROM": "events@lms.example",
    }
    system.env |= settings
    system.start(OTHERS)
    yield f"http://127.0.0.1:{api_port}"
    for stage in OTHERS:
        assert system.stop(stage) == 0


@contextmanager
def a_reader(scenario_run: ScenarioRun, api_url: str, account: str) -> Iterator[None]:
    """A customer reads the newest deliveries of an account every second."""
    made = scenario_run.loaded.system.run("api-keys", "create", account, "--name", "soak", "--json")
    key = made["apiKey"]
    request = urllib.request.Request(f"{api_url}/v1/deliveries", headers={"Authorization": f"Bearer {key}"})
    enough = threading.Event()

    def read() -> None:
        while not enough.wait(READ_EVERY_SECONDS):
            # It is killed now and then.
            with suppress(OSError, HTTPException):
                urllib.request.urlopen(request, timeout=30).read()

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    try:
        yield
    finally:
        enough.set()
        reading.join()


def _kill(scenario_run: ScenarioRun, stage: str) -> None:
    if stage in STAGES:
        scenario_run.kill(stage)
        return
    system = scenario_run.loaded.system
    scenario_run.kills += 1
    if stage in WORLD:
        scenario_run.supervisor.kill(stage)
    else:
        system.kill(stage)
        system.launch(stage)
    until(partial(system.is_ready, stage), READY_SECONDS, f"{stage} ready")


def _ticks(began: float, minutes: float, every: float) -> Iterator[None]:
    """One tick each `every` seconds until this many minutes have passed since `began`."""
    due = time.monotonic()
    while due < began + minutes * 60:
        time.sleep(max(0.0, due - time.monotonic()))
        yield
        due = max(due + every, time.monotonic())


def _progress(scenario_run: ScenarioRun, began: float, minutes: float, what: str) -> None:
    load = scenario_run.loaded.load
    passed = (time.monotonic() - began) / 60
    print(f"{passed:6.1f} of {minutes:.0f} minutes: {load.events} events, {load.owed} deliveries  {what}", flush=True)


def memory_mb(pid: int) -> float:
    """What the process has in memory and swap of its own and shared, in MB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = [int(line.split()[1]) for line in status if line.startswith(("VmRSS:", "VmSwap:"))]
    return sum(kilobytes) / MEGABYTE


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def report(row: Row, growths: list[Growth]) -> str:
    lines = [
        table([row]),
        *row.complaints,
        "",
        f"{'stage':<10}{'MB':>8}{'MB an hour':>12}{'open files':>12}{'more':>6}",
    ]
    for one in growths:
        mark = "" if one.is_bounded else "  too much"
        lines.append(
            f"{one.stage:<10}{one.memory_mb:>8.0f}{one.mb_an_hour:>+12.1f}{one.open_files:>12.0f}"
            f"{one.more_open_files:>+6.0f}{mark}"
        )
    return "\n".join([*lines, f"allowed: {MEMORY_MB_AN_HOUR:+.0f} MB an hour, {OPEN_FILES:+} open files"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=100, help="how long, from the first event (default: 100)")
    parser.add_argument("--rate", type=float, default=200, help="events a second (default: 200)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of random choices (default: random)")
    given = parser.parse_args()
    if given.minutes < MIN_MINUTES:
        parser.error(f"--minutes must be {MIN_MINUTES:g} or more: before, every process still fills its memory")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"seed {given.seed}", flush=True)
    growths: list[Growth] = []
    scenario = Scenario("soak", partial(soak, minutes=given.minutes, growths=growths), rate=given.rate)
    postgres, kafka = Postgres(PRODUCTION), FastSessionKafka()
    try:
        loaded = LoadedSystem(kafka, postgres, "soak.")
        row = None
        try:
            row = perform(loaded, scenario, given.seed)
        finally:
            loaded.close(keep_folder=not (row and row.is_good))
    finally:
        kafka.remove()
        postgres.remove()
    print(report(row, growths))
    is_good = row.is_good and len(growths) == len(EVERY) and all(one.is_bounded for one in growths)
    if not is_good:
        print(f"logs and notes: {loaded.folder}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
