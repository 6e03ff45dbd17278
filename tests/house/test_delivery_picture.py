"""The picture of the state machine of a delivery in docs/architecture.md is drawn from its table."""

from pathlib import Path

from streams.core.deliveries.delivery_moves import TRANSITIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture.md"


def picture() -> str:
    moves = [f"    {state} --> {then} : {cause}" for (state, cause), then in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> waiting : fan-out", "    [*] --> held : backfill", *moves])


def test_the_picture_has_each_move() -> None:
    assert f"```mermaid\n{picture()}\n```" in DOCUMENT.read_text()
