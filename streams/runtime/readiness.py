"""Group problems by cause: each cause once, with the stages that report it."""

from collections.abc import Iterable


def group_by_cause(problems: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each cause, with the names of the stages that report it. An empty name is left out."""
    names_by_cause: dict[str, list[str]] = {}
    for name, cause in problems:
        names_by_cause.setdefault(cause, []).append(name)
    return [
        _to_line(", ".join(dict.fromkeys(filter(None, stage_names))), cause)
        for cause, stage_names in names_by_cause.items()
    ]


def _to_line(names: str, cause: str) -> str:
    return f"{names}: {cause}" if names else cause
