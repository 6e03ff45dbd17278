"""The screen of the demo: the state of every event, and how fast the healthy customer gets it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.core.deliveries.delivery import State
from streams.core.deliveries.delivery_state import StateCount

STYLES = {State.DELIVERED: "green", State.WAITING: "yellow", State.HELD: "cyan", State.DEAD: "red"}


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """One customer's row: name, behaviour, its webhook's status, and its deliveries by state."""

    name: str
    says: str
    status: str
    state_counts: Sequence[StateCount]

    def count(self, state: State) -> int:
        return sum(state_count.count for state_count in self.state_counts if state_count.state is state)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The data of one picture; `delays` are seconds from publishing to the healthy customer's 2xx, if there is one."""

    events: int
    customers: Sequence[CustomerRow]
    delays: Sequence[float] | None


def draw(scene: Snapshot) -> RenderableType:
    table = Table(expand=True, box=None, header_style="bold")
    table.add_column("customer")
    table.add_column("its server")
    table.add_column("webhook")
    for state in STYLES:
        table.add_column(state, justify="right", style=STYLES[state])
    for line in scene.customers:
        counts = [str(line.count(state)) for state in STYLES]
        status = Text(line.status, style="green" if line.status == "active" else "cyan")
        table.add_row(line.name, line.says, status, *counts)
    delays = [] if scene.delays is None else [_delays(scene.delays)]
    return Panel(
        Group(table, "", _tiers(scene), _reasons(scene), *delays),
        title=f"scorm-webhooks demo: {scene.events} events in",
        subtitle="Ctrl-C ends it",
    )


def links_text(data_dir: Path, url: str, sign_in_link: str, api_key: str) -> str:
    """What to do while the demo runs. With the panel it fits a terminal of 24 lines."""
    return (
        "Meanwhile, in another terminal:\n"
        f"  export SCORM_WEBHOOKS_DATA_DIR={data_dir}\n"
        "  scorm-webhooks deliveries list --state dead\n"
        "  scorm-webhooks webhooks list\n"
        "  scorm-webhooks webhooks enable ID   (releases its held deliveries)\n"
        "The dashboard (this link signs in once):\n"
        f"  {sign_in_link}\n"
        f"The API: {url}/docs\n"
        f"  its key: {api_key}"
    )


def _count_by(scene: Snapshot, state: State, key: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for state_count in (
        state_count for line in scene.customers for state_count in line.state_counts if state_count.state is state
    ):
        name = getattr(state_count, key) or "now"
        counts[name] = counts.get(name, 0) + state_count.count
    return counts


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _tiers(scene: Snapshot) -> str:
    return f"waiting, by tier       {_words(_count_by(scene, State.WAITING, 'tier'))}"


def _reasons(scene: Snapshot) -> str:
    return f"dead letters, by why   {_words(_count_by(scene, State.DEAD, 'reason'))}"


def _delays(delays: Sequence[float]) -> str:
    if not delays:
        return "event to 2xx           no delivery yet"
    p50, p99 = (percentile(delays, share) * 1000 for share in (0.5, 0.99))
    return f"event to 2xx (crm)     p50 {p50:.0f} ms, p99 {p99:.0f} ms"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, nearest rank."""
    sorted_values = sorted(values)
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]
