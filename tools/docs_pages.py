"""The pages and files of the documentation that the code generates: no copy of them is kept in Git."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from docs_asyncapi import asyncapi_text
from docs_problems import problems_page
from docs_reference import api_page, commands_page, table
from streams.core.events.event import render
from streams.core.events.event_data import EVENT_DESCRIPTIONS, EVENT_TYPES, OPT_IN_TYPES, data_schema
from streams.core.ids import ID_PATTERN
from streams.features.webhooks.samples import sample_event

SCHEMAS = Path(__file__).parents[1] / "schemas" / "history"
_NOON = datetime(2026, 4, 10, 14, 32, tzinfo=UTC)
# Headings, code, tables, comments, pictures and lists.
_NO_SENTENCE = ("#", "```", "|", "<", "![", "- ")
_ABOUT_ITSELF = "Never about the webhook that receives it."
# What a receiver need not expect of each type.
NEVER = {
    "session.launched": "Never for a page that is loaded again with the same `sessionId`.",
    "session.completed": (
        "Never more than two for a session. Never for a later `failed` or `incomplete`, for a result that was known "
        "at the launch, or in the modes `browse` and `review`."
    ),
    "session.scored": (
        "Never for the score of an objective, or for an unchanged score. A player's session has at most one in five "
        "seconds, and 200 in all."
    ),
    "session.ended": "Never twice for a session. Never for sessions whose events your own server publishes.",
    "session.reset": (
        "Never twice for the same result of a session. No second `session.completed` follows when the course is "
        "completed after it."
    ),
    "package.updated": "Never for a package that only its sessions use: the platform publishes each new version.",
    "usage.threshold": "Never twice for a month and a percentage. Never for an account without a plan limit.",
    "webhook.failing": f"{_ABOUT_ITSELF} Never after a single failure.",
    "webhook.paused": f"{_ABOUT_ITSELF} Never for a pause by a person.",
    "webhook.recovered": f"{_ABOUT_ITSELF} Never without a `webhook.failing` or `webhook.paused` before it.",
    "webhook.deadletters": f"{_ABOUT_ITSELF} Never with the ids of the dead letters: list them.",
    "webhook.secret.ending": f"{_ABOUT_ITSELF} Never outside of a rotation.",
    "webhook.certificate.ending": f"{_ABOUT_ITSELF} Never for an endpoint that got no request.",
}


_MAKERS: Mapping[str, Callable[[], str]] = {
    "event-types.md": lambda: events_page(),
    "problems.md": problems_page,
    "api-reference.md": api_page,
    "command-reference.md": commands_page,
    "asyncapi.yaml": asyncapi_text,
}
GENERATED_NAMES = frozenset(_MAKERS)


def generated_files() -> dict[str, str]:
    """The text of each generated file, by its name."""
    return {name: make() for name, make in _MAKERS.items()}


# -- events --------------------------------------------------------------------------------------------------


def events_page() -> str:
    """The catalogue of event types."""
    parts = [
        "# Event types",
        "What does each event say, when is it sent, and what need you not expect? "
        "The code that checks events generates this page.",
        "Fields without a value are absent, never `null`. Ids, numbers and times have the limits of the tables. "
        'A test event has `"test": true` beside `id`. A new field or type may come at any time: ignore what you do '
        "not know. [receiving.md](receiving.md) describes the request around the event.",
        table(
            ("type", "sent when"), [(f"[`{name}`](#{anchor(name)})", EVENT_DESCRIPTIONS[name]) for name in EVENT_TYPES]
        ),
    ]
    for name in EVENT_TYPES:
        parts += event_section(name)
    return "\n\n".join(parts) + "\n"


def event_section(name: str) -> list[str]:
    """The section of one event type."""
    schema, since = data_schema(name), versions_of(name)
    body = json.loads(render(sample_event(name, "evt_01HYX9K2M3N4P5Q6R7S8T9V0W1", "acc_1", _NOON)))
    del body["test"]
    fields = [
        (f"`{field}`", "yes" if field in schema["required"] else "no", in_words(kind), str(since.get(field, since[""])))
        for field, kind in schema["properties"].items()
    ]
    chosen = "Only webhooks that name this type get it; `*` does not include it."
    notes = [f"**Sent when:** {EVENT_DESCRIPTIONS[name]}", f"**Not sent:** {NEVER[name]}"]
    if name in OPT_IN_TYPES and "Only webhooks that name" not in EVENT_DESCRIPTIONS[name]:
        notes.append(f"**Who gets it:** {chosen}")
    if name == "session.scored":
        notes.append("**Also:** `scoreRaw` or `scoreScaled` is always there.")
    return [
        f"## {name}",
        *notes,
        f"```json\n{json.dumps(body, indent=2)}\n```",
        table(("field of `data`", "always there", "value", "since schema version"), fields),
    ]


def versions_of(event_type: str) -> dict[str, int]:
    """The first version of the schema that has the type, by the empty name, and that has each field of it."""
    record_name = "".join(part.capitalize() for part in event_type.split("."))
    since: dict[str, int] = {}
    for path in sorted(SCHEMAS.glob("session_event.*.avsc"), key=lambda path: int(path.name.split(".")[1])):
        fields = {field["name"]: field["type"] for field in json.loads(path.read_text())["fields"]}
        for record in fields["data"]:
            if record["name"] == record_name:
                # Metadata and sequence are beside the record of the type.
                for field in ("", *fields, *(field["name"] for field in record["fields"])):
                    since.setdefault(field, int(path.name.split(".")[1]))
    if not since:
        raise ValueError(f"no schema of an event has the type {event_type}: add it to schemas/session_event.avsc")
    return since


def in_words(kind: Mapping[str, Any]) -> str:
    """What a value must be."""
    if "enum" in kind:
        return "one of " + ", ".join(f"`{value}`" for value in kind["enum"])
    if kind.get("pattern") == f"^{ID_PATTERN.pattern}$":
        return "an id: 1 to 128 of `A-Z a-z 0-9 _ : -`"
    if "pattern" in kind:
        return "a month such as `2026-04`"
    if kind.get("format") == "duration":
        return f"an ISO 8601 duration of at most {kind['maxLength']} characters"
    if kind.get("format") == "date-time":
        return "a time in UTC (RFC 3339)"
    if kind["type"] == "object":
        names, texts = kind["propertyNames"]["maxLength"], kind["additionalProperties"]["maxLength"]
        return f"up to {kind['maxProperties']} pairs of texts; names of {names} characters, texts of {texts}"
    if kind["type"] == "string":
        return f"a text of {kind['minLength']} to {kind['maxLength']} characters"
    name = "a whole number" if kind["type"] == "integer" else "a number"
    return f"{name} from {power(kind['minimum'])} to {power(kind['maximum'])}"


def power(number: int) -> str:
    """A large number as a power of two, as people write it."""
    for exponent in (53, 63):
        for offset, end in ((0, ""), (1, " − 1")):
            if abs(number) + offset == 2**exponent:
                return f"{'−' * (number < 0)}2^{exponent}{end}"
    return str(number)


def anchor(heading: str) -> str:
    """The anchor that Sphinx gives to a heading of a name with dots."""
    return re.sub(r"[^\w-]", "", heading)


# -- llms.txt ------------------------------------------------------------------------------------------------


def llms_text(pages: Mapping[str, str]) -> str:
    """The index for language models (llmstxt.org): the sections of the contents, and a line for each page."""
    lines = [
        "# scorm-webhooks",
        "",
        "> Signed webhooks for SCORM events: from Avro on Kafka to an HTTP POST, with retries, holds and dead letters.",
    ]
    for section, names in contents(pages["index.md"]):
        lines += ["", f"## {section}", ""]
        for name in names:
            title, first = title_and_question(pages[f"{name}.md"])
            lines.append(f"- [{title}](/docs/_sources/{name}.md.txt): {first}")
    lines += [
        *("", "## Optional", ""),
        "- [OpenAPI](/openapi.json): the REST API",
        "- [AsyncAPI](/docs/asyncapi.yaml): the Kafka topics",
    ]
    return "\n".join(lines) + "\n"


def contents(index: str) -> Iterable[tuple[str, list[str]]]:
    """The sections of the index, each with its pages."""
    for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL):
        [caption] = re.findall(r"^:caption: (.*)$", block, re.MULTILINE)
        lines = [line for line in block.splitlines() if line and not line.startswith(":")]
        yield caption, [line.partition("<")[2].rstrip(">") or line for line in lines]


def title_and_question(page: str) -> tuple[str, str]:
    """A page's title and its first sentence, without links."""
    [title] = re.findall(r"^# (.*)$", page, re.MULTILINE)[:1]
    paragraphs = (part.strip() for part in page.partition(f"# {title}\n")[2].split("\n\n"))
    first = next((part for part in paragraphs if part and not part.startswith(_NO_SENTENCE)), "")
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(first.split()))
    return title, re.split(r"(?<=[.?]) ", plain)[0]
