"""The built documentation: which files it has, and the policy under which a browser shows them."""

import gzip
import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

_KINDS = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
}
_OTHER_KIND = "application/octet-stream"
_SCRIPT = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SiteFile:
    """One file of the site; `etag` changes with its content."""

    path: Path
    media_type: str
    etag: str


class BuiltSite:
    """The files of a folder by their names, and the policy for all of them. A folder that is missing has none."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, SiteFile] = {}
        scripts, styles = set[str](), set[str]()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
                self._files[path.relative_to(folder).as_posix()] = SiteFile(path, _kind(path), etag)
                if path.suffix == ".html":
                    page = content.decode()
                    scripts.update(_SCRIPT.findall(page))
                    styles.update(_STYLE.findall(page))
        self.policy = "; ".join(
            (
                "default-src 'none'",
                f"script-src 'self'{_sources(scripts)}",
                f"style-src 'self'{_sources(styles)}",
                "connect-src 'self'",
                "form-action 'self'",
                "img-src 'self' data:",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )

    @property
    def is_built(self) -> bool:
        return "index.html" in self._files

    def find(self, name: str) -> SiteFile | None:
        """The file of a name. A page also has its name without `.html`, and that of its document, as alerts name it."""
        folder_names = ("index.html", "README.html") if name[-1:] in ("", "/") else ()
        names = (name, f"{name.removesuffix('.md')}.html", *(f"{name}{one}" for one in folder_names))
        return next((self._files[one] for one in names if one in self._files), None)


@cache
def built_site() -> BuiltSite:
    """The site beside this code, which `make docs` builds, and which the wheel has."""
    return BuiltSite(Path(str(files("api") / "site")))


@cache
def compressed(file: SiteFile) -> bytes:
    """A text's content, compressed once."""
    return gzip.compress(file.path.read_bytes(), 6, mtime=0)


def _kind(path: Path) -> str:
    return _KINDS.get(path.suffix, _OTHER_KIND)


def _sources(texts: Iterable[str]) -> str:
    """The hashes of inline texts, as a policy names them."""
    hashes = sorted(b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return "".join(f" 'sha256-{one}'" for one in hashes)
