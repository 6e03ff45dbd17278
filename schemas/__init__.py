"""The Avro schemas of all that is written to Kafka, with every version that ever was."""

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

Schema = dict[str, Any]

NAMES = ("session_event", "delivery", "attempt", "dead_letter", "webhook")


def current(name: str) -> Schema:
    """The schema that `name` is written with now; `FileNotFoundError` when there is no such name."""
    return _read(files(__name__) / f"{name}.avsc")


def history(name: str) -> tuple[Schema, ...]:
    """Every version of `name` that is read, oldest first (`history/<name>.<n>.avsc`).

    The current one is the last, or the one before it: a release reads a new version, and the next one writes it.
    """
    paths = [path for path in (files(__name__) / "history").iterdir() if path.name.startswith(f"{name}.")]
    return tuple(_read(path) for path in sorted(paths, key=_number))


def _read(path: Traversable) -> Schema:
    schema: Schema = json.loads(path.read_text(encoding="utf-8"))
    return schema


def _number(path: Traversable) -> int:
    return int(path.name.split(".")[1])
