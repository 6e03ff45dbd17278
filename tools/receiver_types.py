"""The types of events for the receiver helpers: in Python and TypeScript, from the event types.

`make generated` writes them; a test compares them.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from streams.core.events.event_data import EVENT_DESCRIPTIONS, EVENT_TYPES, data_schema

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "helpers"
PYTHON, TYPESCRIPT = FOLDER / "scorm_webhooks_events.py", FOLDER / "scormWebhooksEvents.ts"
LINE_CHARACTERS = 120
_PYTHON_TYPES = {"string": "str", "number": "float", "integer": "int", "object": "dict[str, str]"}
_TYPESCRIPT_TYPES = {"string": "string", "number": "number", "integer": "number", "object": "Record<string, string>"}


def class_name(event_type: str) -> str:
    """`SessionCompleted` for `session.completed`."""
    return "".join(part.capitalize() for part in event_type.split("."))


def _fields(event_type: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Each field with its schema, and whether it is required."""
    schema = data_schema(event_type)
    return ((name, part, name in schema["required"]) for name, part in schema["properties"].items())


def _description(event_type: str, indent: str) -> str:
    """The description in lines that fit."""
    text = EVENT_DESCRIPTIONS[event_type].replace("`", "")
    return f"\n{indent}".join(textwrap.wrap(text, LINE_CHARACTERS - len(indent) - 6))


def python_text() -> str:
    """The module for Python."""
    parts = [_PYTHON_HEAD.format(types=_joined(f'    "{name}",' for name in EVENT_TYPES))]
    for event_type in EVENT_TYPES:
        name = class_name(event_type)
        fields = _joined(
            f"    {field}: {_python_type(schema) if is_required else f'NotRequired[{_python_type(schema)}]'}"
            for field, schema, is_required in _fields(event_type)
        )
        description = _description(event_type, "    ")
        end = "\n    " if "\n" in description else ""
        parts.append(f'class {name}Data(TypedDict):\n    """{description}{end}"""\n\n{fields}\n')
        parts.append(
            f'class {name}(_Event):\n    """An event of the type `{event_type}`."""\n\n'
            f'    type: Literal["{event_type}"]\n    data: {name}Data\n'
        )
    union = _joined(f"    {'| ' if number else ''}{class_name(name)}" for number, name in enumerate(EVENT_TYPES))
    return "\n\n".join(parts) + f"\n\nKnownEvent = (\n{union}\n)\n"


def _python_type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"Literal[{', '.join(json.dumps(value) for value in schema['enum'])}]"
    return _PYTHON_TYPES[schema["type"]]


def typescript_text() -> str:
    """The module for TypeScript."""
    parts = [_TYPESCRIPT_HEAD.format(types=_joined(f"  '{name}'," for name in EVENT_TYPES))]
    for event_type in EVENT_TYPES:
        name = class_name(event_type)
        fields = _joined(
            f"  {field}{'' if is_required else '?'}: {_typescript_type(schema)};"
            for field, schema, is_required in _fields(event_type)
        )
        description = _description(event_type, " * ")
        parts.append(f"/**\n * {description}\n */\nexport interface {name}Data {{\n{fields}\n  {_OTHER_FIELDS}\n}}\n")
        parts.append(
            f"/** An event of the type `{event_type}`. */\nexport interface {name} extends EventBase {{\n"
            f"  type: '{event_type}';\n  data: {name}Data;\n}}\n"
        )
    union = _joined(f"  | {class_name(name)}" for name in EVENT_TYPES)
    return "\n".join(parts) + f"\nexport type KnownEvent =\n{union};\n"


def _typescript_type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(f"'{value}'" if isinstance(value, str) else str(value) for value in schema["enum"])
    return _TYPESCRIPT_TYPES[schema["type"]]


def _joined(lines: Iterator[str]) -> str:
    return "\n".join(lines)


_OTHER_FIELDS = "[field: string]: unknown;"
_PYTHON_HEAD = '''"""The events that a receiver gets, as types. `make generated` writes this file.

A webhook with `fields` gets only these of `data`: then every field may be absent.
"""

from typing import Any, Literal, NotRequired, TypedDict

EVENT_TYPES = (
{types}
)


class _Event(TypedDict):
    id: str
    createdAt: str
    # Only in test events.
    test: NotRequired[bool]


class UnknownEvent(_Event):
    """An event of a type that is newer than this file."""

    type: str
    data: dict[str, Any]
'''
_TYPESCRIPT_HEAD = """// The events that a receiver gets, as types. `make generated` writes this file.
// A webhook with `fields` gets only these of `data`: then every field may be absent.

export const EVENT_TYPES = [
{types}
] as const;

interface EventBase {{
  id: string;
  createdAt: string;
  /** Only in test events. */
  test?: boolean;
}}

/** An event of a type that is newer than this file. */
export interface UnknownEvent extends EventBase {{
  type: string;
  data: Record<string, unknown>;
}}
"""


if __name__ == "__main__":
    PYTHON.write_text(python_text())
    TYPESCRIPT.write_text(typescript_text())
