"""The distribution `scorm-webhooks-producer`: built from the files of `streams.producer`, and installed alone."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from confluent_kafka import Producer
from test_producer import FIELDS, record_at

import streams.producer
from real.built_package import ROOT, Installed, build_and_install
from streams.adapters.avro.codec import AvroCodec
from streams.core.events.event import Event

pytestmark = pytest.mark.slow

NAME = "scorm_webhooks_producer"
MAX_BYTES = 40 * 1024 * 1024
MAX_IMPORT_SECONDS = 0.3
# The best of some runs: a machine with other work is slower in each of them, but not in all.
RUNS = 5
SERVER = ("api", "schemas", "streams", "aiohttp", "aiokafka", "fastapi", "faust", "pydantic", "sqlalchemy")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return build_and_install("producer", tmp_path_factory.mktemp("producer"))


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    broker = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    yield ",".join(f"{node.host}:{node.port}" for node in broker.list_topics(timeout=10).brokers.values())
    broker.flush(0)


PUBLISH = """
import json, sys
from scorm_webhooks_producer import EventProducer
with EventProducer(sys.argv[1]) as producer:
    ack = producer.publish(json.loads(sys.argv[2])).result(timeout=30)
print(json.dumps([ack.event_id, ack.topic, ack.partition, ack.offset]))
"""


def test_it_publishes_an_event_that_our_stages_read(installed: Installed, brokers: str) -> None:
    printed = installed.run(PUBLISH, brokers, json.dumps({**FIELDS, "id": "evt_alone"}))
    record = record_at(brokers, streams.producer.Ack(*json.loads(printed)))
    value = AvroCodec().decode(record.value() or b"")
    assert isinstance(value, Event)
    assert value.id == "evt_alone"
    assert record.key() == b"sess_1"


def test_nothing_of_the_server_is_there(installed: Installed) -> None:
    code = (
        "import sys; from importlib.util import find_spec; print(*(name for name in sys.argv[1:] if find_spec(name)))"
    )
    assert installed.run(code, *SERVER) == ""


def test_it_is_small(installed: Installed) -> None:
    files = [path for path in installed.packages.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_it_is_imported_quickly(installed: Installed) -> None:
    code = f"import time; began = time.process_time(); import {NAME}; print(time.process_time() - began)"
    installed.run(code)  # compiles
    assert min(float(installed.run(code)) for _ in range(RUNS)) <= MAX_IMPORT_SECONDS


def test_it_exports_what_streams_producer_does(installed: Installed) -> None:
    code = f"import json, {NAME} as it; print(json.dumps([[n, getattr(it, n).__module__] for n in it.__all__]))"
    exported = dict(json.loads(installed.run(code)))
    assert list(exported) == streams.producer.__all__
    assert {"EventProducer", "Event", "Invalid", "FieldError", "Misconfigured", "Unavailable"} <= exported.keys()
    assert {module.split(".")[0] for module in exported.values()} == {NAME}


FAKE = """
from scorm_webhooks_producer import Invalid
from scorm_webhooks_producer.testing import FakeProducer
producer = FakeProducer()
try:
    producer.publish({"type": "session.opened"})
except Invalid as wrong:
    print(*(error.field for error in wrong.errors))
"""


def test_its_fake_producer_checks_events(installed: Installed) -> None:
    assert installed.run(FAKE) == "createdAt accountId type data"


def test_its_log_lines_have_its_own_name(installed: Installed) -> None:
    code = f"import logging, {NAME}; print(*logging.Logger.manager.loggerDict)"
    loggers = [name for name in installed.run(code).split() if name.split(".")[0] in ("streams", NAME)]
    assert set(loggers) == {NAME, f"{NAME}.librdkafka"}


@pytest.mark.parametrize(
    ("extra", "asks"), [("msk", "msk_properties('eu-central-1')"), ("registry", "confluent_codec('http://a')")]
)
def test_a_missing_extra_is_its_own(installed: Installed, extra: str, asks: str) -> None:
    code = f"import {NAME} as it\ntry: it.{asks}\nexcept it.Misconfigured as missing: print(missing)"
    assert f"pip install 'scorm-webhooks-producer[{extra}]'" in installed.run(code)


TYPED = f"""
from concurrent.futures import Future
from {NAME} import Ack, EventProducer
from {NAME}.testing import FakeProducer

def publish(producer: EventProducer | FakeProducer) -> Future[Ack]:
    return producer.publish({{}})

wrong: int = publish(FakeProducer())
"""


def test_it_has_types(installed: Installed, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TYPED)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed.python, "--config-file", ""]
    output = subprocess.run([*mypy, program], cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert re.findall(r"error: (.*)\n", output) == [
        'Incompatible types in assignment (expression has type "Future[Ack]", variable has type "int")  [assignment]'
    ]


def test_its_version_and_requirements_are_the_main_ones(installed: Installed) -> None:
    main, own = (
        tomllib.loads((ROOT / path).read_text())["project"] for path in ("pyproject.toml", "producer/pyproject.toml")
    )
    assert f"-{main['version']}-" in installed.wheel.name
    assert own["requires-python"] == main["requires-python"]
    assert set(own["dependencies"]) <= set(main["dependencies"])
    assert own["optional-dependencies"] == {
        name: main["optional-dependencies"][name] for name in own["optional-dependencies"]
    }


def test_the_wheel_has_the_licence_and_no_other_package(installed: Installed) -> None:
    names = ZipFile(installed.wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {NAME}
