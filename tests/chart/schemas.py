"""Validate resources by the schemas of Kubernetes, and of the custom resources' own projects."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

import parts
from chart.rendering import Resource

_DEFINITIONS = "/api/_definitions.json"
_BASE = "urn:kubernetes"

# Strimzi publishes its definitions in no package: the fields of a KafkaTopic, by its API reference.
KAFKA_TOPIC = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"enum": ["kafka.strimzi.io/v1", "kafka.strimzi.io/v1beta2"]},
        "kind": {"const": "KafkaTopic"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "topicName": {"type": "string"},
                "partitions": {"type": "integer", "minimum": 1},
                "replicas": {"type": "integer", "minimum": 1, "maximum": 32767},
                "config": {"type": "object"},
            },
        },
    },
}


def problems(resource: Resource) -> list[str]:
    """What is wrong with a resource, with the place of each error."""
    return [
        f"{resource['kind']} {resource['metadata']['name']}: {'.'.join(map(str, error.instance_path))}: {error.message}"
        for error in _validator(resource["apiVersion"], resource["kind"]).iter_errors(resource)
    ]


@cache
def _validator(version: str, kind: str) -> Any:
    group, _, of_group = version.rpartition("/")
    if kind == "KafkaTopic":
        return jsonschema_rs.validator_for(KAFKA_TOPIC)
    if (group and "." in group.removesuffix(".k8s.io")) or group.startswith("gateway."):
        return jsonschema_rs.validator_for(_custom_resources()[group, of_group, kind])
    name = "-".join(part for part in (kind.lower(), group.split(".")[0], of_group) if part)
    schema = _rebased((parts.KUBE / "schemas" / f"{name}.json").read_text())
    schema.pop("$id", None)
    return jsonschema_rs.validator_for(schema, registry=_registry())


@cache
def _registry() -> jsonschema_rs.Registry:
    definitions = _rebased((parts.KUBE / "schemas" / "_definitions.json").read_text())
    return jsonschema_rs.Registry([(_BASE, definitions)])


def _rebased(text: str) -> dict[str, Any]:
    return dict(json.loads(text.replace(f'"{_DEFINITIONS}#', f'"{_BASE}#')))


@cache
def _custom_resources() -> dict[tuple[str, str, str], dict[str, Any]]:
    folder = parts.custom_resources()
    assert folder, "no custom resource definitions here; `python3 tests/parts.py` brings them"
    return {name: schema for path in folder.glob("*.yaml") for name, schema in _definitions_in(path)}


def _definitions_in(path: Path) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for found in yaml.load_all(path.read_text(), Loader=loader):
        spec = (found or {}).get("spec", {})
        for version in spec.get("versions", []):
            schema = _strict(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= {"metadata": {"type": "object"}}
            yield (spec["group"], version["name"], spec["names"]["kind"]), schema


def _strict(schema: Any) -> Any:
    """An unknown field is an error, as with `kubectl apply --validate=strict`."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(value) for name, value in schema.items()}
    if found.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    if "properties" in found and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    # `format` has values of Go there.
    return {name: value for name, value in found.items() if name != "format" or isinstance(value, dict)}
