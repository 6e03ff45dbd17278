"""Plain words: names and phrases that must not come back (CONTRIBUTING.md has the glossary)."""

import re
from pathlib import Path

import pytest
from house.test_house import ROOT, files_of

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
# Quoted from elsewhere, or another meaning.
ALLOWED: dict[str, set[str]] = {}


def texts() -> list[Path]:
    code = [ROOT / path for path in files_of("streams", "api", "schemas")]
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    return [*code, *documents, ROOT / "schemas" / "README.md"]


@pytest.mark.parametrize(("pattern", "instead"), WORDS.items())
def test_a_word_that_people_stumbled_over_is_not_used(pattern: str, instead: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        if path.suffix in (".py", ".md", ".avsc") and str(path.relative_to(ROOT)) not in ALLOWED.get(pattern, ())
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(pattern, line, re.IGNORECASE)
    ]
    assert found == [], f"say: {instead}"
