"""Put problems together: each cause once, with the stages that have it."""

from collections.abc import Iterable


def by_cause(problems: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each cause, with the names of those that have it. "" is left out."""
    names: dict[str, list[str]] = {}
    for name, cause in problems:
        names.setdefault(cause, []).append(name)
    return [_line(", ".join(dict.fromkeys(filter(None, stage_names))), cause) for cause, stage_names in names.items()]


def _line(names: str, cause: str) -> str:
    return f"{names}: {cause}" if names else cause
