"""Kafka and PostgreSQL in the cluster, each with a folder of the node as its disk."""

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from kube.images import STORES
from kube.kubectl import Kubectl, Resource
from real.kafka import LIGHT, PROPERTIES
from real.postgres import PRODUCTION

NAMESPACE = "stores"
# Fixed, because Kafka says its own address to clients in pods and on the node.
KAFKA_ADDRESS, POSTGRES_ADDRESS = "10.96.0.20", "10.96.0.21"
BOOTSTRAP = f"{KAFKA_ADDRESS}:9092"
DATABASE_PASSWORD = "only-for-tests"
DATABASE_URL = f"postgresql://webhooks:{DATABASE_PASSWORD}@postgres.stores/webhooks"
# On the node, where the names of the cluster do not resolve.
DATABASE_URL_ON_NODE = DATABASE_URL.replace("postgres.stores", POSTGRES_ADDRESS)
READY_SECONDS = 120.0
KAFKA_PROPERTIES = f"""\
{PROPERTIES.format(port=9092, controller=9093, folder="/data")}
listeners=PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093
advertised.listeners=PLAINTEXT://{BOOTSTRAP}
"""
KAFKA = f"""\
java="java {" ".join(LIGHT)} -Dlog4j2.configurationFile=/log4j2.properties -cp /jars/*"
set -f
$java kafka.tools.StorageTool format --standalone --ignore-formatted -t {uuid4().hex[:22]} \\
  -c /config/server.properties
exec $java kafka.Kafka /config/server.properties
"""
POSTGRES = f"""\
if ! [ -e /data/made ]; then
  rm -rf /data/database
  initdb -D /data/database -U webhooks -A scram-sha-256 --pwfile=/config/password -E UTF8 --locale=C
  echo 'host all all all scram-sha-256' >>/data/database/pg_hba.conf
  echo 'CREATE DATABASE webhooks' | postgres --single -D /data/database postgres
  touch /data/made
fi
exec postgres -D /data/database -h 0.0.0.0 -k '' {" ".join(f"-c {name}={value}" for name, value in PRODUCTION.items())}
"""


def start_stores(kubectl: Kubectl, folder: Path) -> None:
    """Start both and wait until they are ready."""
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *store("kafka", 9092, KAFKA_ADDRESS, KAFKA, {"server.properties": KAFKA_PROPERTIES}, disk(folder, "kafka")),
        *store("postgres", 5432, POSTGRES_ADDRESS, POSTGRES, {"password": DATABASE_PASSWORD}, disk(folder, "postgres")),
    )
    wait_for_stores(kubectl)


def wait_for_stores(kubectl: Kubectl) -> None:
    for name in ("kafka", "postgres"):
        status = ["rollout", "status", f"statefulset/{name}", "--namespace", NAMESPACE]
        kubectl.run(*status, f"--timeout={READY_SECONDS:.0f}s")


def disk(folder: Path, name: str) -> Path:
    """A folder of the node that the store's user may write."""
    made = folder / "stores" / name
    made.mkdir(parents=True)
    os.chown(made, 65534, 65534)
    made.chmod(0o700)
    return made


def store(name: str, port: int, address: str, script: str, config: dict[str, str], data: Path) -> list[dict[str, Any]]:
    """A StatefulSet of one pod, its files, and its Service."""
    labels = {"app": name}
    container = {
        "name": name,
        "image": STORES,
        "imagePullPolicy": "Never",
        "command": ["sh", "-ec", script],
        "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "config", "mountPath": "/config"}],
    }
    volumes = [
        {"name": "data", "hostPath": {"path": str(data)}},
        {"name": "config", "configMap": {"name": name}},
    ]
    user = {"runAsUser": 65534, "runAsGroup": 65534}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "securityContext": user,
            "containers": [container],
            "volumes": volumes,
        },
    }
    spec = {"serviceName": name, "selector": {"matchLabels": labels}, "template": template}
    service = {"clusterIP": address, "selector": labels, "ports": [{"port": port}]}
    return [
        resource("v1", "ConfigMap", name, data=config),
        resource("v1", "Service", name, spec=service),
        resource("apps/v1", "StatefulSet", name, spec=spec),
    ]


def resource(version: str, kind: str, name: str, **more: Any) -> Resource:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **more}
