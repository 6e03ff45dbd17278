"""Make an account's webhooks the same as those of a file."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from streams.cli.client import ApiClient, is_remote, open_api
from streams.cli.output import require_terminal_or_yes, show
from streams.cli.text import say
from streams.core.errors import FieldError, Invalid, ScormWebhooksError
from streams.core.limits import MAX_WEBHOOKS_PER_ACCOUNT
from streams.core.text import escape_controls
from streams.core.webhooks.auth import SECRET_NAMES

MAX_FILE_BYTES = 4 * 1024 * 1024
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
# No response shows their values.
_SECRET_FIELDS = {"headers": "hasHeaders", "fallbackHeaders": "hasFallbackHeaders"}
_UNORDERED_FIELDS = frozenset({"events", "packages", "dispatches"})
# A person pauses and enables a webhook; a file that did would undo it.
_REFUSED_FIELDS = {"id": "a webhook is known by its description", "temporary": "a temporary webhook has no file"}

Fields = dict[str, Any]


class Verb(StrEnum):
    """What happens to one webhook."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One change. `fields` are what is sent: the shown ones are without secrets."""

    verb: Verb
    description: str
    webhook_id: str | None = None
    fields: Fields = field(default_factory=dict, repr=False)
    lines: Sequence[str] = ()


def run_apply(
    file: str,
    account: str | None,
    *,
    is_plan: bool,
    is_pruning: bool,
    sends_secrets: bool,
    is_confirmed: bool,
    as_json: bool,
) -> None:
    """Show what would change and, unless it is only planned, do it. Exits with 1 if a plan has changes."""
    if account is None and not is_remote():
        raise Invalid(FieldError("--account", "is required: the id of the webhooks' account"))
    wanted = parse_file(_read(file), os.environ)
    if not is_plan:
        require_terminal_or_yes(is_confirmed, as_json)
    with open_api(account) as api:
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
        results = _apply(api, steps, as_json)
    if as_json:
        show(results, as_json)


def parse_file(text: str, variables: Mapping[str, str]) -> list[Fields]:
    """The webhooks of a YAML file. Raises `Invalid`, which names each wrong place."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, RecursionError) as error:
        raise Invalid(FieldError("file", f"is not YAML: {error}")) from None
    if not isinstance(content, Mapping) or not isinstance(content.get("webhooks"), list) or len(content) > 1:
        raise Invalid(FieldError("file", "must have the one field `webhooks`, a list"))
    entries = content["webhooks"]
    if len(entries) > MAX_WEBHOOKS_PER_ACCOUNT:
        raise Invalid(FieldError("webhooks", f"must be at most {MAX_WEBHOOKS_PER_ACCOUNT}"))
    errors: list[FieldError] = []
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        name = f"webhooks[{number}]"
        if not isinstance(entry, Mapping) or not all(isinstance(one, str) for one in entry):
            errors.append(FieldError(name, "must be an object with fields of the API, such as url and events"))
            continue
        errors += [FieldError(f"{name}.{one}", why) for one, why in _REFUSED_FIELDS.items() if one in entry]
        description = entry.get("description")
        if not isinstance(description, str) or not description:
            errors.append(FieldError(f"{name}.description", "is required: a webhook is known by it"))
        elif description in seen:
            errors.append(FieldError(f"{name}.description", f"{description!r} is used twice"))
        else:
            seen.add(description)
    webhooks = [
        _with_variables(entry, f"webhooks[{number}]", variables, errors) for number, entry in enumerate(entries)
    ]
    if errors:
        raise Invalid(*errors)
    return webhooks


def _with_variables(value: Any, name: str, variables: Mapping[str, str], errors: list[FieldError]) -> Any:
    """The value with each `${NAME}` replaced. Unknown names are added to `errors`."""
    if isinstance(value, Mapping):
        return {key: _with_variables(item, f"{name}.{key}", variables, errors) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_variables(item, f"{name}[{place}]", variables, errors) for place, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    missing = [one for one in _VARIABLE.findall(value) if one not in variables]
    errors += [FieldError(name, f"the environment has no variable {one}") for one in missing]
    return value if missing else _VARIABLE.sub(lambda match: variables[match[1]], value)


def plan_steps(
    wanted: Sequence[Fields], existing: Sequence[Fields], *, is_pruning: bool, sends_secrets: bool
) -> list[Step]:
    """The changes that lead from the existing webhooks to the wanted ones. Raises `Invalid` for an unclear name."""
    by_description: dict[str, list[Fields]] = {}
    for webhook in existing:
        by_description.setdefault(webhook["description"], []).append(webhook)
    steps: list[Step] = []
    for fields in wanted:
        description = fields["description"]
        same = by_description.get(description, [])
        if len(same) > 1:
            ids = ", ".join(one["id"] for one in same)
            raise Invalid(FieldError("description", f"{description!r} names several webhooks: {ids}"))
        if not same:
            steps.append(Step(Verb.CREATE, description, None, fields, _lines({}, fields)))
            continue
        changes = {name: value for name, value in fields.items() if not _is_same(name, same[0], value, sends_secrets)}
        if changes:
            steps.append(Step(Verb.CHANGE, description, same[0]["id"], changes, _lines(same[0], changes)))
    if is_pruning:
        kept = {fields["description"] for fields in wanted}
        # That of somebody's `listen` is no setting.
        others = [one for one in existing if one["description"] not in kept and "expiresAt" not in one]
        steps += [Step(Verb.DELETE, one["description"], one["id"], {}, (_place(one),)) for one in others]
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
        # Fields that the file leaves out have their defaults.
        return all(known.get(one) == item for one, item in value.items()) and value.keys() >= _set_keys(name, known)
    return bool(known == value)


def _set_keys(name: str, known: Mapping[str, Any]) -> set[str]:
    """The keys that a value must have to be the same: all of a filter; of others a default may be left out."""
    return set(known) if name == "filter" else set()


def _lines(webhook: Fields, fields: Fields) -> list[str]:
    """A line for each field that changes, without secrets."""
    lines = []
    for name, value in fields.items():
        if name == "description":
            continue
        if name in _SECRET_FIELDS or name == "auth":
            lines.append(f"{name}: set, and not shown" if value else f"{name}: none")
        elif name in webhook:
            lines.append(f"{name}: {_shown(webhook[name])} → {_shown(value)}")
        else:
            lines.append(f"{name}: {_shown(value)}")
    return lines


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _place(webhook: Fields) -> str:
    return f"url: {webhook.get('url') or 'pull'}"


def _existing(api: ApiClient, wanted: Sequence[Fields]) -> list[Fields]:
    """The account's webhooks; with the ids of their scope where the file has them, which lists leave out."""
    rows = api.rows("webhooks")
    scoped = {fields["description"] for fields in wanted if {"packages", "dispatches"} & fields.keys()}
    return [api.get("webhooks", row["id"]) if row["description"] in scoped else row for row in rows]


def _apply(api: ApiClient, steps: Sequence[Step], as_json: bool) -> list[Fields]:
    """Do each step, in order. An error names what was done before."""
    results: list[Fields] = []
    for step in steps:
        result = _json_of(step)
        try:
            if step.verb is Verb.CREATE:
                made = api.post("webhooks", body=step.fields)
                result |= {"id": made["id"], "secret": made["secret"]}
            elif step.verb is Verb.CHANGE:
                api.patch("webhooks", str(step.webhook_id), body=step.fields)
            else:
                api.delete("webhooks", str(step.webhook_id))
        except ScormWebhooksError:
            say(f"{len(results)} of {len(steps)} done; this one failed: {step.verb} {step.description}", err=True)
            raise
        results.append(result)
        if not as_json:
            secret = f"; signing secret: {result['secret']}" if "secret" in result else ""
            say(f"{_PAST[step.verb]} {step.description} ({result['id']}){secret}")
    return results


_PAST = {Verb.CREATE: "created", Verb.CHANGE: "changed", Verb.DELETE: "deleted"}


def _say_plan(steps: Sequence[Step]) -> None:
    for step in steps:
        say(f"{step.verb} {step.description}{f' ({step.webhook_id})' if step.webhook_id else ''}")
        for line in step.lines:
            say(f"  {escape_controls(line)}")
    say("Nothing to change." if not steps else f"{len(steps)} to change")


def _json_of(step: Step) -> Fields:
    result = {"action": str(step.verb), "description": step.description, "changes": list(step.lines)}
    return {**result, "id": step.webhook_id} if step.webhook_id else result


def _read(file: str) -> str:
    name = "standard input" if file == "-" else file
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise Invalid(FieldError(name, f"must have at most {MAX_FILE_BYTES} bytes"))
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        message = (isinstance(error, OSError) and error.strerror) or str(error)
        raise Invalid(FieldError(name, message)) from None
