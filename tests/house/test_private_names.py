"""The names that libraries keep to themselves, and we use, are there, and the libraries have upper bounds."""

import inspect
import tomllib
from collections.abc import Sequence

import aiohttp
import aiokafka
import faust
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.record.default_records import _DefaultRecordBatchPy
from faust.app.base import App
from faust.tables import TableManager
from faust.transport.consumer import Consumer, ConsumerThread, ThreadDelegateConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from packaging.requirements import Requirement
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import parts

# What is patched, replaced or read, by the class that has it. An attribute of an instance is set in the class's code.
USED: dict[type, Sequence[str]] = {
    App: ("_create_directories", "flow_control", "crash", "crashed", "crash_reason", "consumer_generation_id"),
    TableManager: ("on_start", "_update_channels", "recovery"),
    Consumer: (
        "wait_first",
        "suspend_flow",
        "stop_flow",
        "commit",
        "maybe_wait_for_commit_to_finish",
        "on_partitions_revoked",
        "should_stop",
    ),
    ThreadDelegateConsumer: ("_thread", "seek_to_committed", "seek_wait", "highwaters", "assignment"),
    ConsumerThread: ("assignment",),
    AIOKafkaConsumerThread: ("_consumer",),
    faust.Stream: ("enable_acks", "events", "ack", "channel"),
    aiokafka.AIOKafkaConsumer: ("_fetcher", "_coordinator"),
    GroupCoordinator: ("coordinator_id", "_pending_exception"),
    fetcher.Fetcher: ("_fetch_max_wait_ms", "_proc_fetch_request"),
    _DefaultRecordBatchPy: ("_maybe_uncompress", "_buffer"),
    aiohttp.TCPConnector: (
        *("_factory", "connect", "close", "_create_connection", "_resolve_host", "_start_tls_connection"),
    ),
    Connection: ("protocol", "close"),
    ResponseHandler: ("connection_made", "connection_lost", "data_received"),
    HttpToolsProtocol: ("_unset_keepalive_if_required", "cycle", "parser", "flow", "on_response_complete"),
}
BOUNDED = ("aiohttp", "aiokafka", "faust-streaming", "uvicorn")


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in USED.items() for name in names], ids=lambda one: str(one)
)
def test_a_name_that_we_use_is_there(owner: type, name: str) -> None:
    modules = {inspect.getmodule(base) for base in owner.__mro__}
    code = "".join(inspect.getsource(module) for module in modules if module and hasattr(module, "__file__"))
    assert hasattr(owner, name) or f"self.{name} = " in code or f"self.{name}: " in code


def test_the_fetcher_has_the_memory_records_that_we_replace() -> None:
    assert fetcher.MemoryRecords


@pytest.mark.parametrize("library", BOUNDED)
def test_a_library_with_used_private_names_has_an_upper_bound(library: str) -> None:
    project = tomllib.loads((parts.ROOT / "pyproject.toml").read_text())["project"]
    [found] = [one for text in project["dependencies"] if (one := Requirement(text)).name == library]
    assert {"<", ">="} == {bound.operator for bound in found.specifier}
