"""The built documentation: which files it has, and the policy under which a browser shows them."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath

from api.public_files import PublicFile

# The suffix of a text that `make docs` compressed: most of the site is pages, and each repeats the menu.
COMPRESSED_SUFFIX = ".gz"
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


class BuiltSite:
    """The files of a folder by their names, read once, and the policy for them. A folder that is missing has none."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, PublicFile] = {}
        scripts, styles = set[str](), set[str]()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix().removesuffix(COMPRESSED_SUFFIX)
            kind = _KINDS.get(PurePosixPath(name).suffix, _OTHER_KIND)
            form = "compressed" if path.suffix == COMPRESSED_SUFFIX else "content"
            self._files[name] = PublicFile(kind, **{form: path.read_bytes()})
            if kind == _KINDS[".html"]:
                page = self._files[name].read().decode()
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

    def find(self, name: str) -> PublicFile | None:
        """The file of a name. A page can also be found without `.html`, and by its document's name, as in alerts."""
        folder_names = ("index.html", "README.html") if name[-1:] in ("", "/") else ()
        names = (name, f"{name.removesuffix('.md')}.html", *(f"{name}{one}" for one in folder_names))
        return next((self._files[one] for one in names if one in self._files), None)


@cache
def built_site() -> BuiltSite:
    """The site beside this code: `make docs` builds it, and the wheel contains it."""
    return BuiltSite(Path(str(files("api") / "site")))


def _sources(texts: Iterable[str]) -> str:
    """The hashes of inline texts, as a policy names them."""
    hashes = sorted(b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return "".join(f" 'sha256-{one}'" for one in hashes)
