"""Plain words: names and phrases that must not come back (CONTRIBUTING.md has the glossary)."""

import ast
import re
from collections.abc import Iterable
from functools import cache

import pytest
from house.test_house import ROOT, files_of

pytestmark = pytest.mark.slow

# Each with what to say instead.
WORDS = {
    r"\bledgers?\b": "offset tracker",
    r"\bintake\b": "partition consumer",
    r"\blanes?\b": "partition state, queue",
    r"\brepute\b": "endpoint class",
    r"\berrands?\b": "maintenance, priority",
    r"\bpark(s|ed|ing)?\b": "store as invalid",
    r"\bunreadable\b": "invalid",
    r"\b(un)?seal(s|ed|ing|er)?\b": "encrypt, decrypt",
    r"\bdeeds?\b": "audit entry",
    r"\bwish(es)?\b": "input",
    r"\btall(y|ies)\b": "state count",
    r"\bstandings?\b": "delivery state",
    r"\btwins?\b": "duplicate",
    r"\bwhoever\b": "name the actor",
    r"\bthrice\b": "three times",
    r"\bfor to\b": "to, because to",
    r"\bof late\b": "recently",
    r"\bhad better\b": "should",
    r"\bwaited out\b": "through an outage",
    r"\bmend(s|ed|ing)?\b": "fix, correct",
    r"\bsent on\b": "released",
    r"\bburi(ed|al)\b|\bbury\b": "give up, dead letter",
    r"\bmints?\b": "make",
    r"\b(is|are) no (id|name|number|topic|URL|scope|key|address)\b": "is not a …",
    r"\bR\d{1,2}\b": "name the rule",
}
# Further words that tests and experiments do not use.
TEST_WORDS = {
    r"\bnouns?\b": "value, class",
    r"\bdice\b": "rng",
    r"\bso many\b": "a number",
    r"\banew\b": "again",
    r"\bsomebody\b": "name the actor",
    r"\btold\b": "logged, reported",
    r"\bstrangers?\b": "untrusted client",
    r"\bhostile\b": "invalid, untrusted",
    r"\bpoison": "invalid record",
}
# Quoted from elsewhere, or another meaning.
ALLOWED: dict[str, set[str]] = {
    r"\bunreadable\b": {"tests/contract/test_subscriptions_table.py"},
    r"\bR\d{1,2}\b": {"tests/adversary/test_cli.py"},
}
MAX_TEST_NAME = 60
THIS_FILE = "tests/house/test_words.py"


def texts() -> list[str]:
    code = files_of("streams", "api", "client", "schemas", "examples")
    documents = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *files_of("docs")]
    return [*code, *documents, *files_of_tests()]


def files_of_tests() -> list[str]:
    return [path for path in files_of("tests", "bench") if path != THIS_FILE]


def in_words(line: str) -> str:
    """The line with its names, snake_case and CamelCase, split into words."""
    return re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", line)


def uses_of(pattern: str, paths: Iterable[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path in paths
        if path.endswith((".py", ".md", ".avsc")) and path not in ALLOWED.get(pattern, ())
        for number, (line, words) in enumerate(lines_of(path), start=1)
        if re.search(pattern, words, re.IGNORECASE)
    ]


@cache
def lines_of(path: str) -> list[tuple[str, str]]:
    """Each line of a file, and the words in it."""
    return [(line, in_words(line)) for line in (ROOT / path).read_text().splitlines()]


@pytest.mark.parametrize(("pattern", "instead"), WORDS.items())
def test_an_unclear_word_is_not_used(pattern: str, instead: str) -> None:
    assert uses_of(pattern, texts()) == [], f"say: {instead}"


@pytest.mark.parametrize(("pattern", "instead"), TEST_WORDS.items())
def test_an_unclear_word_is_not_used_in_tests(pattern: str, instead: str) -> None:
    assert uses_of(pattern, files_of_tests()) == [], f"say: {instead}"


@pytest.mark.parametrize("name", ["self._deed", "deed_of", "DeedSeen", "newDeed"])
def test_a_word_is_found_within_names(name: str) -> None:
    assert re.search(r"\bdeeds?\b", in_words(name), re.IGNORECASE)


def test_the_name_of_a_test_has_at_most_60_characters() -> None:
    too_long = [
        f"{path}: {node.name}"
        for path in files_of("tests")
        if path.endswith(".py")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and len(node.name) > MAX_TEST_NAME
    ]
    assert too_long == []
