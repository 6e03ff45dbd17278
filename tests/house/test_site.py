"""The documentation's site: what is generated is complete, links are checked, and the documents stay short."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import docs_site
import parts
from api.documentation.site import BuiltSite
from conftest import left_out
from docs_asyncapi import asyncapi
from docs_pages import (
    GENERATED_NAMES,
    NEVER,
    contents,
    events_page,
    generated_files,
    llms_text,
    title_and_question,
)
from docs_problems import HELP, all_kinds
from docs_reference import openapi
from streams.acls import ACCESS
from streams.core.errors import problem_type
from streams.core.events.event_data import EVENT_TYPES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MAX_WORDS = 35_000
MAX_WORDS_OF_A_START = 350
# Five minutes, without blocks of code.
MAX_WORDS_OF_A_PAGE = 1_250
START_PAGES = sorted(DOCS.glob("start-*.md"))
PAGES = sorted({*DOCS.glob("*.md")} - {DOCS / "index.md"})
CODE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
VALIDATE = """
const {Parser} = require("@asyncapi/parser");
const {AvroSchemaParser} = require("@asyncapi/avro-schema-parser");
const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
const text = require("fs").readFileSync(0, "utf8");
parser.parse(text).then(({document, diagnostics}) => console.log(JSON.stringify({
  channels: document ? document.channels().length : 0,
  errors: diagnostics.filter(({severity}) => severity === 0).map(({message, path}) => `${path.join(".")}: ${message}`),
})));
"""


@pytest.fixture(scope="module")
def generated() -> Mapping[str, str]:
    return generated_files()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Sphinx reads. Writing it fails for each link that leads to no file."""
    folder = tmp_path_factory.mktemp("staged")
    docs_site.stage(folder)
    return folder


# -- generated pages -------------------------------------------------------------------------------------------


def test_every_problem_has_a_section(generated: Mapping[str, str]) -> None:
    names = {name for name, _, _ in all_kinds()}
    assert names == HELP.keys()
    sections = set(re.findall(r"^## (.*)$", generated["problems.md"], re.MULTILINE))
    assert {problem_type(name) for name in names} == {f"/docs/problems#{section}" for section in sections}


def test_every_event_type_is_in_the_catalogue() -> None:
    page = events_page()
    assert NEVER.keys() == EVENT_TYPES.keys()
    for name, fields in EVENT_TYPES.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        [example] = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
        assert json.loads(example)["type"] == name
        assert "**Sent when:**" in section
        assert "**Not sent:**" in section
        assert set(re.findall(r"^\| `(\w+)` \| (?:yes|no) \| .* \| \d+ \|$", section, re.MULTILINE)) == fields.keys()


def test_every_call_and_object_is_in_the_reference(generated: Mapping[str, str]) -> None:
    page, document = generated["api-reference.md"], openapi()
    headings = set(re.findall(r"^### (.*)$", page, re.MULTILINE))
    calls = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert calls | document["components"]["schemas"].keys() <= headings
    assert all(f"| `{name}` |" in page for name in document["webhooks"])


def test_the_openapi_document_has_each_webhook_request() -> None:
    requests = openapi()["webhooks"]
    assert requests.keys() == EVENT_TYPES.keys()
    for name, request in requests.items():
        body = request["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert body["properties"]["type"] == {"const": name}


# -- AsyncAPI --------------------------------------------------------------------------------------------------


def test_every_topic_is_in_the_asyncapi_document() -> None:
    document = asyncapi()
    topics = {channel["address"] for channel in document["channels"].values()}
    named = {topic for access in ACCESS.values() for topic in (*access.reads, *access.writes)}
    assert {topic for topic in named if not topic.endswith(".")} <= topics
    used = {name for channel in document["channels"].values() for name in channel["messages"]}
    assert used == document["components"]["messages"].keys()


@pytest.mark.slow
def test_the_parser_of_asyncapi_accepts_the_document(generated: Mapping[str, str]) -> None:
    folder = parts.asyncapi()
    if folder is None:
        left_out("parser of AsyncAPI")
    text = generated["asyncapi.yaml"]
    assert validate(folder, text) == {"channels": len(yaml.safe_load(text)["channels"]), "errors": []}
    assert validate(folder, text.replace("action: send", "action: throw", 1))["errors"] != []


def validate(folder: Path, text: str) -> Any:
    command = ["node", "-e", VALIDATE]
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


# -- the site --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_page_is_in_the_index_for_language_models(staged: Path) -> None:
    pages = {path.relative_to(staged).as_posix(): path.read_text() for path in staged.rglob("*.md")}
    text = llms_text(pages)
    names = [name for _, section in contents(pages["index.md"]) for name in section]
    assert len(names) == len(set(names))
    listed = re.findall(r"^- \[[^]]+\]\(/docs/_sources/([^)]*)\.md\.txt\): \S", text, re.MULTILINE)
    assert listed == names
    own = {path.stem for path in DOCS.glob("*.md")} | {name[:-3] for name in GENERATED_NAMES if name.endswith(".md")}
    assert own - {"index"} <= set(names)


@pytest.mark.slow
def test_a_link_leads_to_the_copy_of_its_file(staged: Path) -> None:
    page = (staged / "architecture.md").read_text()
    # The name of a file becomes the page's title.
    assert "([what a crash repeats](guarantees.md#what-a-crash-costs)). [](pacing.md)" in page
    assert "```text\nflowchart" in page
    source = (staged / "access.md").read_text()
    [copy] = re.findall(r"\[The registry\]\((.*)\)", source)
    assert (staged / copy).read_text() == (ROOT / "api" / "visibility.py").read_text()
    assert copy.endswith(".py.txt")
    changes = (staged / "repository" / "CHANGELOG.md").read_text()
    assert "](../receiving.md)" in changes


@pytest.mark.slow
@pytest.mark.parametrize(("old_name", "target"), docs_site.MOVED.items())
def test_the_address_of_a_moved_page_leads_to_its_text(staged: Path, old_name: str, target: str) -> None:
    name, _, anchor = target.partition("#")
    headings = re.findall(r"^#+ (.+)$", (staged / name.replace(".html", ".md")).read_text(), re.MULTILINE)
    assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings]
    old_page = staged / docs_site.EXTRA / f"{old_name}.html"
    [link] = re.findall(r'content="0; url=([^"]*)"', old_page.read_text())
    assert (old_page.parent / link).relative_to(staged / docs_site.EXTRA).as_posix() == target


@pytest.mark.parametrize("link", ["missing.md", "../streams", "../README.md/x"])
def test_a_link_that_leads_to_no_file_fails_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "streams").mkdir()
    (tmp_path / "docs" / "page.md").write_text(f"# Page\n\n[text]({link})\n")
    monkeypatch.setattr(docs_site, "ROOT", tmp_path)
    monkeypatch.setattr(docs_site, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(docs_site, "PAGES_OF_OTHER_FOLDERS", ())
    with pytest.raises(ValueError, match=f"docs/page.md: the link {link} leads to no file"):
        docs_site.Staging().run()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[a link](#first)", None),
        ("[a link](missing.md)", "missing.md"),
        ("[a link](other.md#nowhere)", "nowhere"),
        ("[a link](#nowhere)", "nowhere"),
    ],
)
def test_a_bad_link_or_anchor_fails_the_build(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, warning: str | None
) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    (source / docs_site.EXTRA).mkdir(parents=True)
    shutil.copy(DOCS / "conf.py", source)
    (source / "index.md").write_text(f"# First\n\n{text}\n\n```{{toctree}}\nother\n```\n")
    (source / "other.md").write_text("# Other\n\nText.\n")
    assert docs_site.build(tmp_path, site) == (warning is None)
    assert (site / "index.html").exists() == (warning is None)
    assert warning is None or warning in capfd.readouterr().err
    assert list(docs_site.problems_of(site)) == []


@pytest.mark.parametrize(
    "html",
    [
        '<p style="color: red">',
        '<a onclick="run()">',
        '<script src="https://elsewhere.example.com/a.js">',
        '<link rel="stylesheet" href="//elsewhere.example.com/a.css">',
        '<img src="http://elsewhere.example.com/a.png">',
    ],
)
def test_what_the_policy_would_refuse_fails_the_build(tmp_path: Path, html: str) -> None:
    (tmp_path / "page.html").write_text(html)
    assert len(list(docs_site.problems_of(tmp_path))) == 1


def test_a_packed_site_serves_the_same_files(tmp_path: Path) -> None:
    site, packed = tmp_path / "site", tmp_path / "packed"
    (site / "_images").mkdir(parents=True)
    (site / "index.html").write_text("<p>1")
    (site / "_images" / "a.png").write_bytes(b"\x89PNG")
    docs_site.pack(site, packed)
    built = BuiltSite(packed)
    assert built.is_built
    for name in ("index.html", "_images/a.png"):
        file = built.find(name)
        assert file is not None
        assert file.read() == (site / name).read_bytes()
    assert [path.name for path in packed.iterdir() if path.is_file()] == ["index.html.gz"]


# -- length ----------------------------------------------------------------------------------------------------


# Pictures, and rows that are those of the code, word for word: tests/house/test_docs.py compares them.
CHECKED_ROWS = re.compile(
    r"^\| `scorm_webhooks_[^\n]*$|^```mermaid\n.*?^```$", re.MULTILINE | re.IGNORECASE | re.DOTALL
)


def words(text: str) -> int:
    """The number of words, without the bars of tables, pictures, and rows that only repeat the code."""
    return sum(bool(re.search(r"\w", word)) for word in CHECKED_ROWS.sub("", text).split())


def test_the_documents_are_short_enough_to_be_read() -> None:
    folders = (DOCS, DOCS / "decisions", DOCS / "runbooks")
    documents = [ROOT / "README.md", *(path for folder in folders for path in folder.glob("*.md"))]
    assert sum(words(path.read_text()) for path in documents) <= MAX_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.name))
def test_a_page_takes_five_minutes(page: Path) -> None:
    assert words(CODE.sub("", page.read_text())) <= MAX_WORDS_OF_A_PAGE


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.name))
def test_a_page_begins_with_the_question_it_answers(page: Path) -> None:
    _, first = title_and_question(page.read_text())
    assert first.endswith("?"), first


@pytest.mark.parametrize("page", START_PAGES, ids=lambda path: str(path.name))
def test_a_first_page_takes_ten_minutes(page: Path) -> None:
    assert len(START_PAGES) == 3
    assert words(page.read_text()) <= MAX_WORDS_OF_A_START
