"""The documents name every setting, topic, metric, file and command, and no others."""

import re
import shlex
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from alerts.metrics import known, named_in
from docs_pages import GENERATED_NAMES
from scorm_webhooks_cli.api_variables import KEY_VARIABLE, PROFILE_VARIABLE, URL_VARIABLE
from streams import metrics, outage, settings
from streams.acls import ACCESS
from streams.cli.app import app
from streams.core.deliveries.schedule import parse_schedule
from streams.outage import OutageKind
from streams.settings import Settings, load_settings
from streams.topics import RETRY_PREFIX, Topic, declare

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CODE = ("streams", "api", "client", "schemas", "tests", "bench", "examples", "tools")
FOLDERS = ("docs", "schemas", "examples")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
# Hosts of examples and of the standards that we follow.
KNOWN_HOSTS = re.compile(
    r"(localhost|127\.0\.0\.1|([\w-]+\.)*(example\.com|standardwebhooks\.com|w3\.org|ietf\.org|rfc-editor\.org"
    r"|apache\.org|github\.com|opentelemetry\.io))"
)
DEFAULTS_OF_A_CLUSTER = load_settings({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"})
DEFAULTS_OF_UP = load_settings({})


def rows(document: str) -> dict[str, list[str]]:
    """The table rows of a document: cells by the name in the first column."""
    text = (ROOT / "docs" / document).read_text()
    found = re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, re.MULTILINE)
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), f"{document} has a name twice"
    return {name: cells.split(" | ") for name, cells in found}


# -- settings --------------------------------------------------------------------------------------------------


def test_every_setting_is_documented_and_no_other() -> None:
    documented = {name for name in rows("settings.md") if name.startswith(settings.PREFIX)}
    assert documented == set(settings.names())
    assert {"KAFKA_BOOTSTRAP_SERVERS", "KAFKA_CONFIG_<PROPERTY>", "DATABASE_URL"} <= rows("settings.md").keys()


@pytest.mark.parametrize("field", Settings.model_fields)
def test_a_settings_help_matches_its_document(field: str) -> None:
    _, meaning = rows("settings.md")[settings.PREFIX + field.upper()]
    assert meaning == Settings.model_fields[field].description


@pytest.mark.parametrize("field", sorted(Settings.model_fields.keys() - {"encryption_keys"}))
def test_a_settings_default_matches_its_document(field: str) -> None:
    documented, _ = rows("settings.md")[settings.PREFIX + field.upper()]
    cluster, embedded = (documented_default(getattr(found, field)) for found in (DEFAULTS_OF_A_CLUSTER, DEFAULTS_OF_UP))
    assert documented.replace("`", "") == (cluster if cluster == embedded else f"{cluster} ({embedded} embedded)")


def documented_default(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, Path):
        return f"./{default}"
    tiers = getattr(default, "tiers", None)
    return ",".join(tier.name for tier in tiers) if tiers else str(default or "none" if default != 0 else 0)


def test_a_document_names_no_unknown_setting() -> None:
    for document in DOCUMENTS:
        named = set(re.findall(rf"{settings.PREFIX}[A-Z][A-Z_]*", document.read_text()))
        assert named <= {*settings.names(), URL_VARIABLE, KEY_VARIABLE, PROFILE_VARIABLE}, document.name


# -- topics ----------------------------------------------------------------------------------------------------


def declared_topics() -> dict[str, Topic]:
    of = DEFAULTS_OF_A_CLUSTER
    topics = declare(parse_schedule("30s,2m,10m,1h,6h"), of.event_partitions, of.delivery_partitions)
    return {topic.name: topic for topic in topics}


def test_every_topic_is_documented_and_no_other() -> None:
    assert rows("topics.md").keys() == declared_topics().keys()


@pytest.mark.parametrize("name", declared_topics())
def test_a_topic_matches_its_document(name: str) -> None:
    key, partitions, policy, written_by, read_by = rows("topics.md")[name]
    topic = declared_topics()[name]
    assert (key, partitions, policy) == (topic.key, str(topic.partitions), policy_of(topic))
    known = {"fan-out", "deliver", "record", "publish", "maintain", "meter", "api", "producers", "people"}
    assert {*written_by.split(", "), *read_by.split(", ")} <= known


@pytest.mark.parametrize("name", declared_topics())
def test_the_rules_of_kafka_match_the_document(name: str) -> None:
    *_, written_by, read_by = rows("topics.md")[name]
    writers = {stage for stage, access in ACCESS.items() if is_among(name, access.writes)}
    readers = {stage for stage, access in ACCESS.items() if is_among(name, access.reads)}
    assert (writers, readers) == (set(written_by.split(", ")) & set(ACCESS), set(read_by.split(", ")) & set(ACCESS))


def is_among(name: str, topics: Sequence[str]) -> bool:
    return any(name == topic or (topic == RETRY_PREFIX and name.startswith(topic)) for topic in topics)


def policy_of(topic: Topic) -> str:
    if topic.config["cleanup.policy"] == "compact":
        return f"compact, tombstones {days(topic.config['delete.retention.ms'])}"
    return f"delete after {days(topic.config['retention.ms'])}"


def days(milliseconds: str) -> str:
    return f"{timedelta(milliseconds=int(milliseconds)).days} days"


# -- metrics ---------------------------------------------------------------------------------------------------


def declared_metrics() -> dict[str, list[str]]:
    counters = {name: ["counter", ", ".join(labels) or "–", words] for name, (words, labels) in COUNTERS.items()}
    gauges = {name: ["gauge", ", ".join(labels) or "–", words] for name, (words, labels) in GAUGES.items()}
    histograms = {name: ["histogram", "–", words] for name, (words, _) in HISTOGRAMS.items()}
    every = {**counters, **gauges, **histograms}
    return {f"{metrics.NAMESPACE}_{name}": cells for name, cells in every.items()}


COUNTERS, GAUGES, HISTOGRAMS = metrics.COUNTERS, metrics.GAUGES, metrics.HISTOGRAMS


def test_every_metric_is_documented_and_no_other() -> None:
    assert rows("metrics.md") == declared_metrics()


def test_a_document_names_no_unknown_metric() -> None:
    for document in DOCUMENTS:
        named = {name for name, _ in named_in(document.read_text())}
        # A package, and modules to import or copy.
        assert named - {"producer", "cli", "receiver", "events"} <= {*known(), *HISTOGRAMS}, document.name


def test_every_warning_and_error_of_the_log_is_documented() -> None:
    code = "".join(
        path.read_text() for folder in ("streams", "api", "client") for path in (ROOT / folder).rglob("*.py")
    )
    logged = set(re.findall(r"\.(?:warning|error|critical)\(\s*\"([a-z_]+)\"", code))
    kinds = [kind for kind in vars(outage).values() if isinstance(kind, OutageKind)]
    logged |= {name for kind in kinds for name in (kind.started, kind.ended)}
    assert len(logged) > 40
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert [name for name in sorted(logged) if f"`{name}`" not in page] == []


def test_every_metric_is_used() -> None:
    ours = [path for package in ("streams", "api") for path in (ROOT / package).rglob("*.py")]
    sources = "".join(path.read_text() for path in ours if path.name != "metrics.py")
    for name in (*COUNTERS, *GAUGES, *HISTOGRAMS):
        assert f'"{name}"' in sources, name


# -- files and links -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_has_no_broken_link(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:)([\w./-]+)\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    # The site alone has pages that the code generates; its build finds a link to any other missing page.
    assert [link for link in missing if link.rpartition("/")[2] not in GENERATED_NAMES] == []
    files = re.findall(
        r"(?<![\w/.])((?:streams|schemas|docs|tests|bench|api|client|examples)/[\w./-]*\w)(?![\w<*])", text
    )
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize(
    "decision", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: str(path.name)
)
def test_a_decision_names_code_that_exists(decision: Path) -> None:
    text = decision.read_text()
    files = [path.relative_to(ROOT).as_posix() for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    named = re.findall(r"`([\w/.-]+\.py)`", text)
    assert [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)] == []
    code = "\n".join((ROOT / file).read_text() for file in files)
    # Names of classes; those of a library are in an import.
    assert [
        name for name in set(re.findall(r"`([A-Z]\w*[a-z]\w*)`", text)) if not re.search(rf"\b{name}\b", code)
    ] == []


def test_the_readme_links_every_folder_and_document() -> None:
    named = set(re.findall(r"[`(]((?:streams|docs)/[\w./-]*\w)/?(?:#[\w-]+)?[`)]", README))
    documents = {f"docs/{path.name}" for path in (ROOT / "docs").iterdir() if path.name not in ("images", "conf.py")}
    folders = {f"streams/{path.parent.name}" for path in (ROOT / "streams").glob("*/__init__.py")}
    assert documents | folders <= named


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_known_hosts_only(document: Path) -> None:
    hosts = re.findall(r"https?://([\w.-]+)", document.read_text())
    assert [host for host in hosts if not KNOWN_HOSTS.fullmatch(host)] == []


# -- commands --------------------------------------------------------------------------------------------------


def blocks(text: str) -> list[list[str]]:
    """The commands of a document's shell blocks, split into words, without comments and line breaks."""
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = [line for line in shell.splitlines() if "<<" not in line]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


FIRST_DOCUMENTS = ("README.md", "docs/start-operator.md", "docs/start-platform.md", "docs/stages.md")


def first_commands() -> list[list[str]]:
    """The arguments after each `scorm-webhooks` in the first documents."""
    text = "\n".join((ROOT / path).read_text() for path in FIRST_DOCUMENTS)
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    prose = "\n".join(re.findall(r"`(scorm-webhooks [^`]*)`", text))
    # Not the chart's folder, or the image.
    found = re.findall(r"(?<!/)(?:\.venv/bin/)?scorm-webhooks ([^|&;)#\n]+)", f"{shell}\n{prose}")
    return [shlex.split(words) for words in found]


@cache
def program() -> Any:  # typer has no public type for it
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command of these words, and its arguments; KeyError if there is none."""
    command = program()
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_every_command_in_the_first_documents_exists() -> None:
    found = first_commands()
    assert len(found) > 12
    for words in found:
        command, rest = command_of(words)
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, " ".join(words)


def test_every_stage_is_in_the_first_documents() -> None:
    assert {"fan-out", "deliver", "record", "publish", "maintain", "meter", "notify", "api"} <= {
        words[0] for words in first_commands()
    }


def test_every_make_target_in_a_document_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE))
        assert named
        assert named <= verbs, document


def test_the_readme_has_the_two_commands() -> None:
    first, second, *_, last = blocks(README)
    assert [first, second] == [["make", "demo"], ["make", "demo", "ARGS=--events 200 --exit"]]
    assert last == ["make", "test"]
