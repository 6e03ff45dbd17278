"""Make an account's webhooks the same as in a file."""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.input_file import read_text
from scorm_webhooks_cli.output import AccountOption, JsonOption, require_terminal_or_yes, show
from scorm_webhooks_cli.text import hint, say
from streams.core.errors import FieldError, Invalid, ScormWebhooksError
from streams.core.limits import MAX_WEBHOOKS_PER_ACCOUNT
from streams.core.webhooks.auth import SECRET_NAMES, ClientAuthentication
from streams.core.webhooks.delivery_options import DEFAULT_PAUSE_AFTER
from streams.core.webhooks.url import without_query

Fields = dict[str, Any]

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 30
# In the list within the file.
_WEBHOOK_DEPTH = 2
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
# No response shows their values.
_SECRET_FIELDS = {"headers": "hasHeaders", "fallbackHeaders": "hasFallbackHeaders"}
_DEFAULTS: Mapping[str, Fields] = {
    "pauseAfter": asdict(DEFAULT_PAUSE_AFTER),
    "auth": {"clientAuthentication": ClientAuthentication.BASIC},
}
_UNORDERED_FIELDS = frozenset({"events", "packages", "dispatches"})
_URL_FIELDS = frozenset({"url", "fallbackUrl"})
_REFUSED_FIELDS = {
    "id": "webhooks are matched by description",
    "status": "people pause and enable a webhook, and a file would undo it",
    "temporary": "a temporary webhook has no file",
}


class Verb(StrEnum):
    """What happens to one webhook."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Entry:
    """One webhook of the file: its fields, and the fields before variables were replaced."""

    fields: Fields = field(repr=False)
    text: Fields


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `fields` is sent as it is; what people see has no secrets."""

    verb: Verb
    description: str
    webhook_id: str | None = None
    version: int | None = None
    fields: Fields = field(default_factory=dict, repr=False)
    lines: Sequence[str] = ()


def apply(
    file: Annotated[str, typer.Option("--file", "-f", help="A YAML file with `webhooks`; - for standard input.")],
    is_plan: Annotated[
        bool, typer.Option("--plan", help="Only show what would change. Exit code 1 if something.")
    ] = False,
    is_pruning: Annotated[bool, typer.Option("--prune", help="Delete webhooks that the file does not have.")] = False,
    sends_secrets: Annotated[
        bool, typer.Option("--secrets", help="Send headers and credentials too, which cannot be compared.")
    ] = False,
    is_confirmed: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    account: AccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an account's webhooks the same as in a file. Webhooks are matched by description.

    Shows what changes, and asks, first. A second run changes nothing. Only fields that the file has are changed.
    `${NAME}` in a text is replaced by a variable of the environment.

    Example: `scorm-webhooks apply -f webhooks.yaml --plan`
    """
    wanted = parse_file(read_text(file, MAX_FILE_BYTES), os.environ)
    if not is_plan:
        require_terminal_or_yes(is_confirmed, as_json)
    with open_api(account, needs_account=True) as api:
        steps = plan_steps(wanted, _existing(api, wanted), is_pruning=is_pruning, sends_secrets=sends_secrets)
        if not as_json:
            _say_plan(steps)
        if is_plan or not steps:
            if as_json:
                show([_json_of(step) for step in steps], as_json)
            if steps:
                raise typer.Exit(1)
            return
        if not is_confirmed:
            typer.confirm("Apply?", abort=True, err=True)
        _apply(api, steps, as_json)


def parse_file(text: str, variables: Mapping[str, str]) -> list[Entry]:
    """The webhooks of a YAML file. Raises `Invalid`, which names each wrong place."""
    content = _parse_yaml(text)
    if not isinstance(content, Mapping) or not isinstance(content.get("webhooks"), list) or len(content) > 1:
        raise Invalid(FieldError("file", "must have the one field `webhooks`, a list"))
    items = content["webhooks"]
    if len(items) > MAX_WEBHOOKS_PER_ACCOUNT:
        raise Invalid(FieldError("webhooks", f"must be at most {MAX_WEBHOOKS_PER_ACCOUNT}"))
    errors: list[FieldError] = []
    entries = [_parse_entry(item, f"webhooks[{number}]", variables, errors) for number, item in enumerate(items)]
    if errors:
        raise Invalid(*errors)
    names = [entry.fields["description"] for entry in entries]
    if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
        raise Invalid(*(FieldError("description", f"{name!r} is used twice") for name in dict.fromkeys(repeated)))
    return entries


def _parse_yaml(text: str) -> Any:
    """The content of a YAML file: only JSON types, and no aliases, which could make a small file huge."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        _check_size(YAML(typ="safe", pure=True).parse(text))
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        # Without the line itself, which may have a secret.
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Invalid(FieldError("file", f"is not YAML{place}: {error.problem or error.context}")) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise Invalid(FieldError("file", f"is not YAML ({type(error).__name__})")) from None


def _check_size(events: Iterable[Any]) -> None:
    """Refuse a file that would take too long to parse. Raises `Invalid`."""
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

    depth = webhook_count = 0
    for event in events:
        if isinstance(event, AliasEvent):
            raise Invalid(FieldError("file", "must have no aliases (*name): write each webhook out"))
        if isinstance(event, CollectionEndEvent):
            depth -= 1
        elif isinstance(event, CollectionStartEvent):
            webhook_count += depth == _WEBHOOK_DEPTH
            depth += 1
        if depth > MAX_DEPTH:
            raise Invalid(FieldError("file", f"must have at most {MAX_DEPTH} objects and lists within each other"))
        if webhook_count > MAX_WEBHOOKS_PER_ACCOUNT:
            raise Invalid(FieldError("webhooks", f"must be at most {MAX_WEBHOOKS_PER_ACCOUNT}"))


def _parse_entry(item: Any, name: str, variables: Mapping[str, str], errors: list[FieldError]) -> Entry:
    """One webhook. Errors are added to `errors`."""
    if not isinstance(item, Mapping):
        errors.append(FieldError(name, "must be an object with fields of the API, such as url and events"))
        return Entry({}, {})
    errors += [FieldError(f"{name}.{field}", why) for field, why in _REFUSED_FIELDS.items() if field in item]
    fields = _with_variables(item, name, variables, errors)
    if not isinstance(fields.get("description"), str) or not fields["description"]:
        errors.append(FieldError(f"{name}.description", "is required: a webhook is known by it"))
    return Entry(fields, dict(item))


def _with_variables(value: Any, name: str, variables: Mapping[str, str], errors: list[FieldError]) -> Any:
    """The value with each `${NAME}` replaced. Errors are added to `errors`."""
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            errors.append(FieldError(name, f"{wrong[0]!r} must be a text: put it into quotation marks"))
        return {key: _with_variables(item, f"{name}.{key}", variables, errors) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_variables(item, f"{name}[{place}]", variables, errors) for place, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        errors.append(FieldError(name, "must be a finite number"))
    if value is None or isinstance(value, bool | int | float):
        return value
    if not isinstance(value, str):
        errors.append(FieldError(name, f"is a {type(value).__name__} in YAML: put it into quotation marks"))
        return value
    missing = [one for one in _VARIABLE.findall(value) if one not in variables]
    errors += [FieldError(name, f"the environment has no variable {one}") for one in missing]
    return value if missing else _VARIABLE.sub(lambda match: variables[match[1]], value)


def plan_steps(
    wanted: Sequence[Entry], existing: Sequence[Fields], *, is_pruning: bool, sends_secrets: bool
) -> list[Change]:
    """The changes that lead from the existing webhooks to the wanted ones. Raises `Invalid` for an unclear name."""
    by_description: dict[str, list[Fields]] = {}
    for webhook in existing:
        by_description.setdefault(webhook["description"], []).append(webhook)
    steps: list[Change] = []
    for entry in wanted:
        description = entry.fields["description"]
        same = by_description.get(description, [])
        if len(same) > 1:
            ids = ", ".join(one["id"] for one in same)
            raise Invalid(FieldError("description", f"{description!r} names several webhooks: {ids}"))
        if not same:
            steps.append(
                Change(Verb.CREATE, description, fields=entry.fields, lines=_lines({}, entry.fields, entry.text))
            )
            continue
        webhook = same[0]
        changes = {
            name: value for name, value in entry.fields.items() if not _is_same(name, webhook, value, sends_secrets)
        }
        if changes:
            lines = _lines(webhook, changes, entry.text)
            steps.append(Change(Verb.CHANGE, description, webhook["id"], webhook["version"], changes, lines))
    if is_pruning:
        kept = {entry.fields["description"] for entry in wanted}
        # The temporary webhooks of `listen` are not managed.
        others = [one for one in existing if one["description"] not in kept and "expiresAt" not in one]
        steps += [Change(Verb.DELETE, one["description"], one["id"], lines=(_place(one),)) for one in others]
    return steps


def _is_same(name: str, webhook: Fields, value: Any, sends_secrets: bool) -> bool:
    """Whether a webhook has this value already, as far as responses show it."""
    if name in _SECRET_FIELDS:
        return not sends_secrets and bool(webhook.get(_SECRET_FIELDS[name])) == bool(value)
    known = webhook.get(name)
    if name in _UNORDERED_FIELDS and isinstance(value, list) and isinstance(known, list):
        return sorted(map(str, known)) == sorted(map(str, value))
    if name == "auth" and isinstance(value, Mapping) and not sends_secrets:
        value = {one: text for one, text in value.items() if one not in SECRET_NAMES.values()}
    if isinstance(value, Mapping) and isinstance(known, Mapping):
        # Keys that the file leaves out have their defaults.
        defaults = _DEFAULTS.get(name, {})
        return {**defaults, **_set_values(known)} == {**defaults, **_set_values(value)}
    return bool(known == value)


def _set_values(value: Mapping[str, Any]) -> Fields:
    return {name: item for name, item in value.items() if item is not None}


def _lines(webhook: Fields, fields: Fields, text: Fields) -> list[str]:
    """A line for each field that changes, as the file has it (`text`): without the values of variables and secrets."""
    lines = []
    for name, value in fields.items():
        if name == "description":
            continue
        if name in _SECRET_FIELDS or name == "auth":
            lines.append(f"{name}: set, and not shown" if value else f"{name}: none")
        elif name in webhook:
            lines.append(f"{name}: {_shown(name, webhook[name])} → {_shown(name, text[name])}")
        else:
            lines.append(f"{name}: {_shown(name, text[name])}")
    return lines


def _shown(name: str, value: Any) -> str:
    """A value for people; a query of a URL may have a secret."""
    if isinstance(value, str):
        return without_query(value) if name in _URL_FIELDS else value
    return json.dumps(value, ensure_ascii=False, default=str)


def _place(webhook: Fields) -> str:
    return f"url: {_shown('url', webhook.get('url') or 'pull')}"


def _existing(api: ApiClient, wanted: Sequence[Entry]) -> list[Fields]:
    """The account's webhooks; with the ids of their scope if the file has a scope, because lists omit them."""
    rows = api.rows("webhooks")
    scoped = {entry.fields["description"] for entry in wanted if {"packages", "dispatches"} & entry.fields.keys()}
    return [api.get("webhooks", row["id"]) if row["description"] in scoped else row for row in rows]


def _apply(api: ApiClient, steps: Sequence[Change], as_json: bool) -> None:
    """Do each step, in order. After an error it says what was done before."""
    results: list[Fields] = []
    try:
        for step in steps:
            results.append({**_json_of(step), "id": _do(api, step)})
            if not as_json:
                say(f"{_PAST[step.verb]} {step.description} ({results[-1]['id']})")
    except (ScormWebhooksError, KeyboardInterrupt):
        failed = steps[len(results)]
        say(f"{len(results)} of {len(steps)} done; this one failed: {failed.verb} {failed.description}", err=True)
        raise
    finally:
        if as_json:
            show(results, as_json)
    if any(step.verb is Verb.CREATE for step in steps):
        hint("`scorm-webhooks webhooks secret ID` shows the signing secret of a new webhook")


def _do(api: ApiClient, step: Change) -> str:
    """Do one step. Returns the webhook's id. Raises `Stale` if somebody has changed it since it was planned."""
    if step.verb is Verb.CREATE:
        return str(api.post("webhooks", body=step.fields)["id"])
    webhook_id = str(step.webhook_id)
    if step.verb is Verb.CHANGE:
        api.patch("webhooks", webhook_id, body=step.fields, headers={"If-Match": f'"{step.version}"'})
    else:
        api.delete("webhooks", webhook_id)
    return webhook_id


_PAST = {Verb.CREATE: "created", Verb.CHANGE: "changed", Verb.DELETE: "deleted"}


def _say_plan(steps: Sequence[Change]) -> None:
    for step in steps:
        say(f"{step.verb} {step.description}{f' ({step.webhook_id})' if step.webhook_id else ''}")
        for line in step.lines:
            say(f"  {line}")
    say("Nothing to change." if not steps else f"{len(steps)} to change")


def _json_of(step: Change) -> Fields:
    result = {"action": str(step.verb), "description": step.description, "changes": list(step.lines)}
    return {**result, "id": step.webhook_id} if step.webhook_id else result
