"""Build the documentation's site: the documents, the pages that the code generates, and the files that they link to.

The site is in `.docs/site`, for the release. `api/site`, where `api` and the wheel take it from, has its texts
compressed. A bad link, anchor or reference is an error.
"""

import gzip
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from api.documentation.site import COMPRESSED_SUFFIX
from docs_pages import GENERATED_NAMES, generated_files, llms_text

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKED = ROOT / "api" / "site"
WORK = ROOT / ".docs"
# Documents of other folders are pages below this one, and other files are text below it.
OUTSIDE = "repository"
# Files at the root of the site; Sphinx takes the folder by its setting `html_extra_path`.
EXTRA = "extra"
PAGES_OF_OTHER_FOLDERS = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "bench/measurements.md", "schemas/README.md"),
    "examples/producers/README.md",
)
# Pages that are now a part of another one: their addresses lead there.
MOVED = {
    "compose": "docker.html",
    "crashes": "guarantees.html#what-a-crash-costs",
    "image": "docker.html#the-image",
    "kafka-tokens": "kafka.html#sign-in-by-tokens",
    "small-deployment": "stages.html#the-small-deployment",
    "runbooks/ScormWebhooksDeadLettersOld": "runbooks/ScormWebhooksDeadLettersGrowing.html",
    "runbooks/ScormWebhooksLagGrowing": "runbooks/ScormWebhooksLagHigh.html",
    "runbooks/ScormWebhooksMaintainerMissing": "runbooks/ScormWebhooksPublisherMissing.html",
}
_MOVED_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Moved</title>
<meta http-equiv="refresh" content="0; url={page}"></head>
<body><p>This page is now a part of <a href="{page}">another one</a>.</p></body></html>
"""
_LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(\))")
# A link whose text is the name of a file: on the site it has the title of the page.
_FILE_NAME = re.compile(r"\[[\w./-]+\.md\]\((?=[^)]+\.md)")
_FENCE = re.compile(r"^(```.*?^```[ \t]*$)", re.MULTILINE | re.DOTALL)
_ORPHAN = "---\norphan: true\n---\n\n"


class Staging:
    """Reads documents and what they link to. Links lead from staged file to staged file."""

    def __init__(self) -> None:
        self._todo = [path.relative_to(ROOT).as_posix() for path in sorted(DOCS.rglob("*")) if path.is_file()]
        self._todo += PAGES_OF_OTHER_FOLDERS

    def run(self) -> dict[str, bytes]:
        """The files by their staged names.

        Raises `ValueError` for a link to a missing file, or to a folder without a README.
        """
        found: dict[str, bytes] = {}
        while self._todo:
            source = self._todo.pop()
            if (name := staged_name(source)) not in found:
                found[name] = self._page(source).encode() if source.endswith(".md") else (ROOT / source).read_bytes()
        return found

    def _page(self, source: str) -> str:
        text = (ROOT / source).read_text(encoding="utf-8").replace("```mermaid", "```text")
        parts = _FENCE.split(text)
        # Every second part is a block of code.
        parts[::2] = [
            _LINK.sub(lambda found: self._link(source, found), _FILE_NAME.sub("[](", part)) for part in parts[::2]
        ]
        return ("" if source.startswith("docs/") else _ORPHAN) + "".join(parts)

    def _link(self, source: str, found: re.Match[str]) -> str:
        before, link, anchor, after = found.groups(default="")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if (ROOT / target).is_dir():
            target = f"{target}/README.md"
        is_generated = target.removeprefix("docs/") in GENERATED_NAMES
        if not is_generated and not (ROOT / target).is_file():
            raise ValueError(
                f"{source}: the link {link} leads to no file; link to a file, or to a folder with a README"
            )
        if not is_generated:
            self._todo.append(target)
        path = posixpath.relpath(staged_name(target), posixpath.dirname(staged_name(source)) or ".")
        return f"{before}{path}{anchor}{after}"


def staged_name(source: str) -> str:
    """Where a file of the repository is in the folder that Sphinx reads."""
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    is_page = source.endswith((".md", ".png"))
    # Browsers show a text, and no tool takes it for code of ours.
    return f"{OUTSIDE}/{source}" if is_page else f"{OUTSIDE}/{source}.txt"


def stage(folder: Path) -> None:
    """Write all that Sphinx reads: documents, generated pages, and the files at the root of the site.

    A file that would not change stays untouched, and Sphinx does not read it again.
    """
    texts = Staging().run()
    for name, text in generated_files().items():
        staged = name if name.endswith(".md") else f"{EXTRA}/{name}"
        if staged in texts:
            raise ValueError(f"docs/{name} has the name of a generated page; give it another one")
        texts[staged] = text.encode()
    for name, page in MOVED.items():
        link = posixpath.relpath(page, posixpath.dirname(name) or ".")
        texts[f"{EXTRA}/{name}.html"] = _MOVED_PAGE.format(page=link).encode()
    texts[f"{EXTRA}/llms.txt"] = llms_text(
        {name: texts[name].decode() for name in texts if name.endswith(".md")}
    ).encode()
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in texts:
            path.unlink()
    for name, content in texts.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != content:
            target.write_bytes(content)


def build(work: Path, site: Path) -> bool:
    """Build the pages of the staged folder. Whether that went without a warning."""
    built, doctrees = work / "built", work / "doctrees"
    options = ("--builder", "html", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "--jobs", "auto")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        *options,
        "--doctree-dir",
        str(doctrees),
        str(work / "source"),
        str(built),
    ]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        # The next build shall warn again of pages that it would otherwise take from here.
        shutil.rmtree(doctrees, ignore_errors=True)
        return False
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(built, site, ignore=shutil.ignore_patterns(".*", "*.map", "objects.inv"))
    for page in site.rglob("*.html"):
        page.write_text(without_styles(page.read_text(encoding="utf-8")), encoding="utf-8")
    return True


def without_styles(html: str) -> str:
    """A page without styles in attributes, which the policy of the site forbids."""
    html = re.sub(r'(<svg [^>]*?) style="display: none;?"', r"\1 hidden", html)
    return re.sub(r'(<\w+) style="opacity: 50%"', r'\1 opacity="0.5"', html)


def pack(site: Path, target: Path) -> None:
    """Copy a site, with its texts compressed. The same site gives the same bytes."""
    shutil.rmtree(target, ignore_errors=True)
    for path in (path for path in site.rglob("*") if path.is_file()):
        copy = target / path.relative_to(site)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            shutil.copyfile(path, copy)
        else:
            packed = copy.with_name(copy.name + COMPRESSED_SUFFIX)
            packed.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))


def problems_of(site: Path) -> Iterator[str]:
    """What the policy of the site would refuse, or what would be requested from elsewhere."""
    for page in sorted(site.rglob("*.html")):
        html = page.read_text(encoding="utf-8")
        name = page.relative_to(site)
        yield from (f"{name}: style {found}" for found in re.findall(r"<[^>]+ style=[^>]*>", html))
        yield from (f"{name}: handler {found}" for found in re.findall(r"<[^>]+ on\w+=[^>]*>", html))
        loads = r"<(?:script|img|link|iframe|source)\b[^>]*(?:src|href)=\"(https?:|//)[^>]*>"
        yield from (f"{name}: loads {found.group()}" for found in re.finditer(loads, html))


def main() -> int:
    if "--fresh" in sys.argv:
        shutil.rmtree(WORK, ignore_errors=True)
    stage(WORK / "source")
    site = WORK / "site"
    if not build(WORK, site):
        return 1
    problems = list(problems_of(site))
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        pack(site, PACKED)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
