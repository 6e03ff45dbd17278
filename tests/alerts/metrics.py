"""Every metric that an expression may name, with its labels."""

import re
from collections.abc import Iterator

from streams.metrics import COUNTERS, GAUGES, HISTOGRAMS, NAMESPACE

# Labels that Prometheus or a scrape configuration adds.
OF_THE_TARGET = {"namespace", "job", "stage", "pod", "instance"}
_NAMED = re.compile(rf"(?<![\w:]){NAMESPACE}_(\w+)(?:\{{([^}}]*)\}})?")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
_LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')


def known() -> dict[str, set[str]]:
    """The metrics that telemetry exposes, and the labels of each."""
    declared = {name: set(labels) for name, (_, labels) in (*COUNTERS.items(), *GAUGES.items())}
    parts = {f"{name}_{part}": {"le"} for name in HISTOGRAMS for part in ("bucket", "sum", "count")}
    return declared | parts


def named_in(text: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics that a text names, without the namespace, with the labels that it selects by."""
    for name, selector in _NAMED.findall(text):
        yield name, set(_LABEL.findall(selector))


def unknown_in(text: str) -> list[str]:
    """Metrics and labels in a text that nothing exposes."""
    metrics = known()
    return [
        f"{name} {sorted(labels - OF_THE_TARGET)}"
        for name, labels in named_in(text)
        if name not in metrics or labels - OF_THE_TARGET - metrics[name]
    ]


def grouped_in_vain(query: str) -> set[str]:
    """The labels by which a query groups, and which none of its metrics has."""
    metrics = known()
    grouped = {label.strip() for labels in _GROUPED.findall(query) for label in labels.split(",")}
    names = [name for name, _ in named_in(query)]
    return grouped - OF_THE_TARGET.union(*(metrics[name] for name in names)) if names else set()
