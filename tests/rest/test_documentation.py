"""The documentation that `api` serves at `/docs/`: its files, its policy, and nothing else of the machine."""

import gzip
import hashlib
from base64 import b64encode
from pathlib import Path

import pytest

from api.documentation import pages
from api.documentation.site import BuiltSite
from api.shell.assets import asset_url
from rest.api_fixture import ApiFixture

SCRIPT = "document.body.dataset.theme = 1"
STYLE = "body { color: red }"
INDEX = f"<!doctype html><style>{STYLE}</style><script>{SCRIPT}</script><script src='a.js'></script><p>Begin here"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built site, beside a file that is not of it."""
    site = tmp_path / "site"
    (site / "decisions").mkdir(parents=True)
    texts = {
        "index.html": INDEX,
        "problems.html": "<h1>Problems",
        "decisions/README.html": "<h1>Decisions",
        "llms.txt": "# scorm-webhooks",
    }
    for name, text in texts.items():
        (site / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    (site / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setattr(pages, "built_site", lambda: BuiltSite(site))
    return site


def hash_of(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize(
    ("path", "kind", "content"),
    [
        ("/docs/", "text/html; charset=utf-8", INDEX),
        ("/docs/index.html", "text/html; charset=utf-8", INDEX),
        ("/docs/problems", "text/html; charset=utf-8", "<h1>Problems"),
        # The runbook_url of an alert.
        ("/docs/problems.md", "text/html; charset=utf-8", "<h1>Problems"),
        ("/docs/decisions/", "text/html; charset=utf-8", "<h1>Decisions"),
        ("/docs/llms.txt", "text/plain; charset=utf-8", "# scorm-webhooks"),
        ("/llms.txt", "text/plain; charset=utf-8", "# scorm-webhooks"),
    ],
)
async def test_a_page_has_its_type_and_text(api: ApiFixture, folder: Path, path: str, kind: str, content: str) -> None:
    response = await api.anonymous.request("GET", path)
    assert (response.status_code, response.headers["content-type"], response.text) == (200, kind, content)
    assert response.headers["cache-control"] == "public, max-age=300"


async def test_the_policy_allows_only_inline_texts_of_the_site(api: ApiFixture, folder: Path) -> None:
    policy = (await api.anonymous.request("GET", "/docs/")).headers["content-security-policy"]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == f"'self' {hash_of(SCRIPT)}"
    assert directives["style-src"] == f"'self' {hash_of(STYLE)}"
    assert "unsafe" not in policy


async def test_a_browser_that_has_the_page_gets_no_body(api: ApiFixture, folder: Path) -> None:
    etag = (await api.anonymous.request("GET", "/docs/")).headers["etag"]
    again = await api.anonymous.request("GET", "/docs/", headers={"If-None-Match": f'"other", {etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    (folder / "index.html.gz").write_bytes(gzip.compress(b"changed"))
    assert (await api.anonymous.request("GET", "/docs/", headers={"If-None-Match": etag})).text == "changed"


async def test_texts_are_compressed_for_who_accepts_it(api: ApiFixture, folder: Path) -> None:
    for accepted, encoding in (("gzip", "gzip"), ("identity", None)):
        response = await api.anonymous.request("GET", "/docs/", headers={"Accept-Encoding": accepted})
        assert response.headers.get("content-encoding") == encoding
        assert (response.text, response.headers["vary"]) == (INDEX, "Accept-Encoding")
    picture = await api.anonymous.request("GET", "/docs/picture.png", headers={"Accept-Encoding": "gzip"})
    assert (picture.content, picture.headers.get("content-encoding")) == (b"\x89PNG", None)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/docs/../secret.txt",
            "/docs/%2e%2e/secret.txt",
            "/docs/..%2fsecret.txt",
            "/docs/decisions/../../secret.txt",
        ),
        *("/docs//etc/passwd", "/docs/%2fetc%2fpasswd", "/docs/decisions", "/docs/nothing", "/docs/index.html/"),
    ],
)
async def test_nothing_else_than_its_files_is_served(api: ApiFixture, folder: Path, path: str) -> None:
    response = await api.anonymous.request("GET", path)
    assert response.status_code == 404
    assert "secret" not in response.text.replace(path, "")


async def test_the_addresses_without_a_slash_lead_on(api: ApiFixture, folder: Path) -> None:
    for path in ("/docs", "/docs/api"):
        response = await api.anonymous.request("GET", path)
        assert (response.status_code, response.headers["location"]) == (308, f"{path}/")


async def test_a_checkout_without_the_site_says_how_to_build_it(
    api: ApiFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "built_site", lambda: BuiltSite(tmp_path / "missing"))
    response = await api.anonymous.request("GET", "/docs/")
    assert "<code>make docs</code>" in response.text
    assert (await api.anonymous.request("GET", "/docs/api/")).status_code == 200
    assert (await api.anonymous.request("GET", "/docs/settings.html")).status_code == 404


async def test_a_page_needs_no_database(api: ApiFixture, folder: Path, statements: list[str]) -> None:
    assert (await api.anonymous.request("GET", "/docs/")).status_code == 200
    assert statements == []


@pytest.mark.parametrize("path", ["/docs/", "/openapi.json", "/docs/api/swagger-ui.css", f"{asset_url('style.css')}"])
async def test_head_has_the_headers_alone(api: ApiFixture, folder: Path, path: str) -> None:
    whole = await api.anonymous.request("GET", path)
    head = await api.anonymous.request("HEAD", path)
    assert (head.status_code, head.headers["etag"]) == (200, whole.headers["etag"])
    assert head.headers["content-length"] == whole.headers["content-length"]


async def test_the_description_of_the_api_is_made_once(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await api.anonymous.request("GET", "/openapi.json")

    def refuse() -> None:
        raise AssertionError("it was made again")

    monkeypatch.setattr(api.app, "openapi", refuse)
    identity = await api.anonymous.request("GET", "/openapi.json", headers={"Accept-Encoding": "identity"})
    assert first.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in identity.headers
    assert first.json() == identity.json()
    again = await api.anonymous.request("GET", "/openapi.json", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip", True),
        ("br, GZIP ; q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("identity", False),
        ("*;q=0", False),
        ("", False),
    ],
)
async def test_gzip_is_for_who_accepts_it(api: ApiFixture, folder: Path, accepted: str, is_compressed: bool) -> None:
    response = await api.anonymous.request("GET", "/docs/", headers={"Accept-Encoding": accepted})
    assert ("content-encoding" in response.headers) == is_compressed
    assert response.text == INDEX
