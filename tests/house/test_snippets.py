"""What the documents say to type exists: commands with their options, calls of the API, JSON and Python."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from house.test_docs import command_of, program

from docs_reference import openapi

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
CALLS = {
    (method.upper(), re.sub(r"\{\w+\}", "{}", path))
    for path, methods in openapi()["paths"].items()
    for method in methods
}
ROOT_COMMAND = program()
# Words that stand for a value, or for several commands.
PLACEHOLDER = re.compile(r"[…|<]")


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in a language, also within lists."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)


# -- commands --------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[list[str]]:
    """The words after each `scorm-webhooks` that is a program's name."""
    shell = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    prose = "\n".join(re.findall(r"(?<!`)`(scorm-webhooks [^`]*)`(?!`)", text))
    for found in re.findall(r"(?<![\w/.=-])(?:\.venv/bin/)?scorm-webhooks ([^&;)#\n]+)", f"{shell}\n{prose}"):
        words = shlex.split(found.partition(" | ")[0].partition(" < ")[0])
        is_other_program = words[:1] and words[0].startswith(("--", "/"))
        if words and not is_other_program and not any(PLACEHOLDER.search(word) for word in words[:2]):
            yield words


@EACH_PAGE
def test_a_command_of_a_page_exists_with_its_options(page: Path) -> None:
    for words in commands(page.read_text()):
        command, rest = command_of(words)
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        named = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert named <= options, " ".join(words)


def test_the_commands_of_the_pages_are_found() -> None:
    assert sum(len([*commands(page.read_text())]) for page in PAGES) > 100


# -- the API ---------------------------------------------------------------------------------------------------


def calls(text: str) -> Iterator[tuple[str, str]]:
    """The method and path of each call: in sentences, and of curl."""
    yield from re.findall(r"\b(GET|POST|PATCH|DELETE) (/(?:v1|runtime)/[\w/{}$-]+)", text)
    for line in "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines():
        if found := re.search(r"\$API(/v1/[\w/{}$-]+)", line):
            method = re.search(r"-X (\w+)", line)
            yield (method[1] if method else "POST" if " -d " in line else "GET"), found[1]


@EACH_PAGE
def test_a_call_of_a_page_exists(page: Path) -> None:
    for method, path in calls(page.read_text()):
        template = re.sub(r"\{\w+\}|\$\w+|(?<=usage/)\d{4}-\d\d", "{}", path).rstrip("/")
        assert (method, template) in CALLS, f"{method} {path}"


def test_the_calls_of_the_pages_are_found() -> None:
    assert len({call for page in PAGES for call in calls(page.read_text())}) > 30


# -- JSON and Python -------------------------------------------------------------------------------------------


@EACH_PAGE
def test_a_block_of_json_is_json(page: Path) -> None:
    decoder = json.JSONDecoder()
    for block in blocks(page.read_text(), "json"):
        rest = block.strip()
        # A block may show several objects, one after the other.
        while rest:
            _, end = decoder.raw_decode(rest)
            rest = rest[end:].strip()


@EACH_PAGE
def test_a_block_of_python_compiles(page: Path) -> None:
    for block in blocks(page.read_text(), "python"):
        compile(block, str(page), "exec")
