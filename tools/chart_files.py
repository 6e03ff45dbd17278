"""The parts of the chart that follow from others: settings in values and schema, the table of values.

`make generated` writes them; tests compare them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from streams.core.limits import MAX_RETRY_TIERS
from streams.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "scorm-webhooks"
VALUES, SCHEMA, DOCUMENT = CHART / "values.yaml", CHART / "values.schema.json", CHART / "README.md"

# Settings that other values of the chart set, or that the chart fixes.
OTHERS = {
    "data_dir": "not used: there is a database, and keys are given",
    "local_key_file": "fixed: a volume of the `api` pod",
    "encryption_keys": "encryptionKeys.existingSecret",
    "operator_keys": "operatorKeys.existingSecret",
    "oidc_client_secret": "oidcClientSecret.existingSecret",
    "egress_proxy_credentials": "egressProxyCredentials.existingSecret",
    "ca_file": "trustedCertificates.configMap",
    "brand_logo": "brandLogo.configMap",
    "api_host": "listenAddress",
    "api_port": "fixed: 8080",
    "sends_mail": "smtp.existingSecret",
    "health_host": "listenAddress",
    "health_port": "fixed: 9090",
    "instance_id": "fixed: the pod's name, in a StatefulSet",
}
DEFAULTS = load_settings({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"})
_KEPT = ("pattern", "minimum", "maximum", "minLength", "maxLength", "enum", "type")
_BLOCK = re.compile(r"(  # begin of settings\n).*?(  # end of settings\n)", re.DOTALL)
_TABLE = re.compile(r"(<!-- begin of values -->\n).*?(<!-- end of values -->\n)", re.DOTALL)


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.title() for part in others)


def settings() -> dict[str, str]:
    """The settings that `settings` of the chart has, by the name there."""
    return {camel(name): name for name in Settings.model_fields if name not in OTHERS}


def default_of(name: str) -> Any:
    """The default of a setting, as values.yaml writes it."""
    value = getattr(DEFAULTS, name)
    if name == "retry_schedule":
        return [tier.name for tier in value.tiers]
    return [str(one) for one in value] if isinstance(value, tuple) else value


def settings_block() -> str:
    """The settings of values.yaml, each under its description."""
    lines = [
        f"  # {Settings.model_fields[name].description}\n  {key}: {_yaml(default_of(name))}\n"
        for key, name in settings().items()
    ]
    return "".join(lines)


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, width=1000)).removesuffix("...\n").strip()


def settings_schema() -> dict[str, Any]:
    """The part of the chart's schema for `settings`."""
    declared = Settings.model_json_schema()["properties"]
    properties = {key: _property(name, declared[name]) for key, name in settings().items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _property(name: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    described = {"description": Settings.model_fields[name].description}
    if name == "retry_schedule":
        wait = {"type": "string", "pattern": "^[1-9][0-9]{0,6}[smhd]$"}
        return {**described, "type": "array", "minItems": 1, "maxItems": MAX_RETRY_TIERS, "items": wait}
    if isinstance(default_of(name), list):
        return {**described, "type": "array", "items": {"type": "string", "minLength": 1}}
    choices = declared.get("anyOf", [declared])
    kept = {key: value for choice in choices for key, value in choice.items() if key in _KEPT and value != "null"}
    if len(choices) > 1 or default_of(name) is None:
        kept["type"] = [kept["type"], "null"]
    return {**described, **kept}


def documented_values() -> Iterator[tuple[str, str, str]]:
    """Each value of values.yaml with a comment above it: path, default, meaning. Settings are documented elsewhere."""
    path: list[str] = []
    comment: list[str] = []
    values = yaml.safe_load(VALUES.read_text())
    for line in VALUES.read_text().splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment.append(text.removeprefix("#").strip())
        elif found := re.match(r"( *)([\w]+):", line):
            path = [*path[: len(found[1]) // 2], found[2]]
            if comment and (path[0] != "settings" or len(path) == 1):
                yield ".".join(path), _default_cell(values, path), " ".join(comment)
            comment = []
        else:
            comment = []


def _default_cell(values: Any, path: list[str]) -> str:
    for key in path:
        values = values[key]
    is_group = isinstance(values, dict) and len(values) > 0
    return "" if is_group or (len(path) == 1 and values) else f"`{json.dumps(values)}`"


def values_table() -> str:
    rows = [f"| `{path}` | {default} | {_escaped(meaning)} |\n" for path, default, meaning in documented_values()]
    return "| value | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def expected() -> dict[Path, str]:
    """Each file with its generated part as it should be."""
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["settings"] = settings_schema()
    values = _BLOCK.sub(lambda found: found[1] + settings_block() + found[2], VALUES.read_text())
    found = {VALUES: values, SCHEMA: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"}
    if DOCUMENT.exists():
        found[DOCUMENT] = _TABLE.sub(lambda match: match[1] + values_table() + match[2], DOCUMENT.read_text())
    return found


def main() -> None:
    for path, text in expected().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
