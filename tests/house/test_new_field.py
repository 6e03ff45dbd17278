"""A field of a webhook that only people need is one line and a migration: the recipe of CONTRIBUTING, played."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("api", "client", "docs", "schemas", "streams", "tests", "tools", "pyproject.toml", "README.md")
BEFORE = '    """The fields of a webhook that only people need: one line for each, and a migration."""\n\n'
LINE = '    note: str = field(default="", metadata=rule(kind=Kind.TEXT, largest=2000, label="Note", hint="For you."))\n'
PLAYED = """
from pathlib import Path

from cli.command import run
from dashboard.pages import signed_in
from rest.api_fixture import URL, ApiFixture


async def test_a_note_is_everywhere(api: ApiFixture) -> None:
    made = await api.acme.webhook(note="Ask Ada", description="The CRM")
    path = f"/v1/webhooks/{made['id']}"
    assert (await api.acme.get(path))["note"] == (await api.acme.get("/v1/webhooks"))["data"][0]["note"] == "Ask Ada"
    too_long = await api.acme.request("PATCH", path, {"note": "x" * 2001})
    assert too_long.json()["errors"] == [{"field": "note", "message": "must have at most 2000 characters"}]
    browser = await signed_in(api, "member")
    form = await browser.open(f"/webhooks/{made['id']}/edit")
    assert 'name="note" type="text" value="Ask Ada"' in form.html
    assert "Note" in form.text and "For you." in form.text
    await browser.send(f"/webhooks/{made['id']}/edit", url=URL, description="The CRM", note="Ask Grace")
    Path("webhooks.yaml").write_text("webhooks: [{description: The CRM, note: Ask Joan}]")
    done = await run("apply", "-f", "webhooks.yaml", "--account", api.acme.account_id, "--yes")
    assert "note: Ask Grace → Ask Joan" in done.output
    changes = [row["details"]["changes"]["note"] for row in (await api.acme.get("/v1/account/audit"))["data"][:2]]
    assert changes == [{"from": "Ask Grace", "to": "Ask Joan"}, {"from": "Ask Ada", "to": "Ask Grace"}]
    await browser.close()
"""


def test_a_field_for_people_is_one_line_and_a_migration(tmp_path: Path) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    table = tmp_path / "streams" / "core" / "webhooks" / "webhook.py"
    assert BEFORE in table.read_text()
    table.write_text(table.read_text().replace(BEFORE, BEFORE + LINE))
    migration = Path(run(tmp_path, "tools/migration.py", "add a note").splitlines()[-2])
    shutil.move(migration, tmp_path / "streams" / "adapters" / "sql" / "migrations" / "versions" / migration.name)
    (tmp_path / "tests" / "cli" / "test_note.py").write_text(PLAYED)
    run(tmp_path, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "tests/cli/test_note.py")


def run(folder: Path, *arguments: str) -> str:
    """Run Python on the code of a folder; return its output."""
    paths = os.pathsep.join(str(folder / name) for name in ("", "client", "tests", "tools"))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
