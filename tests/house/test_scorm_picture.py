"""The picture of the state machine in docs/scorm.md is drawn from its table."""

from pathlib import Path

from streams.features.course_sessions.progress import TRANSITIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "scorm.md"


def picture() -> str:
    lines = ["stateDiagram-v2", "    [*] --> nothing"]
    for (state, news), (then, is_reported) in TRANSITIONS.items():
        event = " / session.completed" if is_reported else ""
        lines.append(f"    {state} --> {then} : {news}{event}")
    return "\n".join(lines)


def test_the_picture_has_each_transition() -> None:
    drawn = DOCUMENT.read_text().partition("```mermaid\n")[2].partition("\n```")[0]
    assert drawn == picture()
