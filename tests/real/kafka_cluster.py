"""Run three Kafka brokers with every topic on all of them, so that a test can kill one."""

import base64
from collections.abc import Sequence
from uuid import uuid4

from real.kafka import Kafka, responses
from real.process import free_ports

NODES = (1, 2, 3)

# These replace the settings of the single broker.
MEMBER = """\
node.id={node}
controller.quorum.bootstrap.servers={quorum}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
"""


class _Node(Kafka):
    """One of three brokers. It answers when a second one runs."""

    def __init__(self, node: int, cluster: str, controllers: Sequence[int], directories: Sequence[str]) -> None:
        self._node = node
        self._cluster = cluster
        self._controllers = controllers
        self._directories = directories
        super().__init__(started=False)

    def _ports(self) -> list[int]:
        return [*free_ports(1), self._controllers[self._node - 1]]

    def _properties(self, port: int, controller: int) -> str:
        quorum = ",".join(f"127.0.0.1:{other}" for other in self._controllers)
        return super()._properties(port, controller) + MEMBER.format(node=self._node, quorum=quorum)

    def _identity(self) -> Sequence[str]:
        members = zip(NODES, self._controllers, self._directories, strict=True)
        founders = ",".join(f"{node}@127.0.0.1:{port}:{directory}" for node, port, directory in members)
        return ["-t", self._cluster, "--initial-controllers", founders]


class KafkaCluster:
    """Runs from its creation. A killed node comes back with its data and port."""

    def __init__(self) -> None:
        controllers, cluster = free_ports(len(NODES)), identity()
        directories = [identity() for _ in NODES]
        self._nodes = {node: _Node(node, cluster, controllers, directories) for node in NODES}
        self.bootstrap = ",".join(node.bootstrap for node in self._nodes.values())
        for each in self._nodes.values():
            each.launch()
        for node in NODES:
            self._await(node)

    def kill_node(self, node: int) -> None:
        self._nodes[node].kill()

    def start_node(self, node: int) -> None:
        self._nodes[node].launch()
        self._await(node)

    def remove(self) -> None:
        """Kill all nodes, because the last ones cannot stop in order, and delete their data."""
        for node in self._nodes.values():
            node.kill()
            node.remove()

    def _await(self, node: int) -> None:
        self._nodes[node].wait_until(lambda: responses(self.bootstrap, brokers=len(NODES)))


def identity() -> str:
    """A cluster id: 16 bytes in base64 without padding."""
    return base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
