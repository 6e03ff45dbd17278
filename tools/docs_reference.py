"""Two reference pages that the code generates: the calls of the API from its OpenAPI document, and the commands."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import typer

from api.app import create_app
from streams.build import build_version
from streams.cli.app import app as command_line

Schema = Mapping[str, Any]
_LIMITS = (
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
    ("maxProperties", "at most {} pairs"),
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
)
_SCHEMAS = "#/components/schemas/"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell_text(cell) for cell in line) + " |" for line in lines)


def cell_text(text: str) -> str:
    """A text for one cell: in one line, and without a bar that would end the cell."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip() or "–"


# -- the API -------------------------------------------------------------------------------------------------


@cache
def openapi() -> dict[str, Any]:
    """The OpenAPI document of this code; it takes a second to make."""
    services: Any = None  # no request is made
    return create_app(services, build_version().partition("+")[0], 1).openapi()


def api_page() -> str:
    """Every call, the requests that webhooks get, and every object."""
    document = openapi()
    operations = [
        (operation["tags"][0], f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    problems = {
        status: response["description"]
        for name, response in document["components"]["responses"].items()
        if (status := name.removeprefix("Problem"))
    }
    parts = [
        "# API reference",
        "Which calls are there, with which fields and responses? The code generates this page from `/openapi.json`. "
        "`/docs/api/` on a running system lets you try them, and [api.md](api.md) explains how they belong together.",
        "Every call may also respond with a [problem](problems.md):",
        table(("status", "reason"), sorted(problems.items())),
    ]
    for tag in dict.fromkeys(tag for tag, _, _ in operations):
        parts.append(f"## {tag}")
        for operation_tag, call, operation in operations:
            if operation_tag == tag:
                parts += operation_parts(call, operation, problems)
    parts += ["## Requests to your endpoint", "What a webhook gets: the `webhooks` of the OpenAPI document."]
    rows = [
        (f"`{name}`", post["post"]["summary"], schema_text(body_schema(post["post"])["properties"]["data"]))
        for name, post in document["webhooks"].items()
    ]
    parts += [table(("event type", "sent when", "`data`"), rows), "## Objects"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts += object_parts(name, schema)
    return "\n\n".join(parts) + "\n"


def operation_parts(call: str, operation: Schema, problems: Mapping[str, str]) -> Iterator[str]:
    """What is said of one call."""
    yield f"### {call}"
    yield f"{operation['summary']}."
    if description := operation.get("description"):
        yield description
    scopes = [scope for need in operation.get("security", []) for scopes in need.values() for scope in scopes]
    if scopes:
        yield f"**Scope:** {', '.join(f'`{scope}`' for scope in scopes)}"
    if parameters := operation.get("parameters"):
        yield table(
            ("parameter", "in", "required", "value", "meaning"),
            [
                (
                    f"`{parameter['name']}`",
                    parameter["in"],
                    "yes" if parameter.get("required") else "no",
                    schema_text(parameter["schema"]),
                    parameter.get("description", ""),
                )
                for parameter in parameters
            ],
        )
    if "requestBody" in operation:
        yield f"**Body:** {schema_text(body_schema(operation))}"
    for status, response in operation["responses"].items():
        if status not in problems:
            content = [schema_text(media.get("schema", {})) for media in response.get("content", {}).values()]
            yield f"**{status}:** {response['description']}{': ' if content else ''}{', '.join(content)}"


def body_schema(operation: Schema) -> Schema:
    """The schema of a request's body."""
    contents: Mapping[str, Schema] = operation["requestBody"]["content"]
    schema: Schema = next(iter(contents.values())).get("schema", {})
    return schema


def object_parts(name: str, schema: Schema) -> Iterator[str]:
    """What is said of one object."""
    yield f"### {name}"
    if description := schema.get("description"):
        yield str(description)
    if "properties" not in schema:
        yield schema_text(schema)
        return
    yield table(
        ("field", "required", "value", "meaning"),
        [
            (
                f"`{field}`",
                "yes" if field in schema.get("required", ()) else "no",
                schema_text(kind),
                field_description(kind),
            )
            for field, kind in schema["properties"].items()
        ],
    )


def field_description(schema: Schema) -> str:
    """A field's description, its own or that of its alternatives."""
    own = schema.get("description", "")
    return own or " ".join(dict.fromkeys(option.get("description", "") for option in schema.get("anyOf", ()))).strip()


def schema_text(schema: Schema) -> str:
    """What a value is, in words: its type, limits and default."""
    if reference := schema.get("$ref"):
        name = str(reference).removeprefix(_SCHEMAS)
        return f"[{name}](#{name.lower()})"
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        text = " or ".join(dict.fromkeys(schema_text(option) for option in options))
    elif "enum" in schema:
        text = "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    elif "const" in schema:
        text = f"`{schema['const']}`"
    elif schema.get("type") == "array":
        text = f"a list of {schema_text(schema['items'])}"
    else:
        text = str(schema.get("format") or schema.get("type") or "any JSON value")
    limits = [words.format(number_text(schema[key])) for key, words in _LIMITS if key in schema]
    if names := schema.get("propertyNames"):
        limits.append(f"names: {schema_text({'type': 'string', **names})}")
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        limits.append(f"values: {schema_text(values)}")
    if "default" in schema and schema["default"] is not None:
        limits.append(f"default `{json.dumps(schema['default'], ensure_ascii=False)}`")
    return "; ".join([text, *limits])


def number_text(number: float) -> str:
    """A limit without the fraction that pydantic gives to whole numbers."""
    return str(int(number)) if number == int(number) else str(number)


# -- the commands --------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Every command with its arguments and options, as `--help` says them."""
    root: Any = typer.main.get_command(command_line)  # typer has no public type for it
    parts = [
        "# Command reference",
        "Which commands are there, with which options? This page is generated from `--help`. "
        "[command-line.md](command-line.md) says which system a command talks to, and what the exit codes mean.",
    ]
    for name, command in root.commands.items():
        if command.hidden:
            continue
        parts += [f"## {name}", help_text(command)]
        for subname, subcommand in getattr(command, "commands", {}).items():
            if not subcommand.hidden:
                parts += [f"### {name} {subname}", help_text(subcommand), *usage_parts(f"{name} {subname}", subcommand)]
        if not hasattr(command, "commands"):
            parts += usage_parts(name, command)
    return "\n\n".join(part for part in parts if part) + "\n"


def help_text(command: Any) -> str:
    return re.sub(r"[ \t]*\n[ \t]*", "\n", (command.help or "").replace("\f", "")).strip()


def argument_text(argument: Any) -> str:
    """The argument as `--help` names it, without the brackets and dots of its usage."""
    return str(argument.metavar or argument.name.upper()).strip("[].")


def usage_parts(name: str, command: Any) -> Iterator[str]:
    """How a command is called, and a row for each argument and option."""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    shown = [option for option in options if not option.hidden and option.name != "help"]
    words = [
        "scorm-webhooks",
        name,
        *(["[OPTIONS]"] if shown else []),
        *(argument_text(argument) if argument.required else f"[{argument_text(argument)}]" for argument in arguments),
    ]
    yield f"```text\n{' '.join(words)}\n```"
    rows = [
        *((f"`{argument_text(argument)}`", argument.help or "") for argument in arguments),
        *(
            (" ".join(f"`{option}`" for option in (*option.opts, *option.secondary_opts)), option.help or "")
            for option in shown
        ),
    ]
    if rows:
        yield table(("argument or option", "meaning"), rows)
