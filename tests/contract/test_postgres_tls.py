"""The database's certificate is verified by the settings of PostgreSQL, as the chart sets them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from sqlalchemy import text

import parts
from conftest import left_out
from real.postgres import FAST, Postgres, other_user
from streams.adapters.sql.engine import migrate, schema_check
from streams.adapters.sql.engine.database import Database, database_url
from streams.core.errors import Unavailable

pytestmark = pytest.mark.real


class Secured:
    """A server with a certificate of its own authority for 127.0.0.1; a client may come without TLS too."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.authority = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.authority)
        certificate, key = folder / "server.crt", folder / "server.key"
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        folder.chmod(0o755)
        for path in (self.authority, certificate, key):
            if user := other_user():
                shutil.chown(path, user)
        self.authority.chmod(0o644)
        options = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        self.server = Postgres({**FAST, **options})


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    if not parts.postgres():
        left_out("PostgreSQL")
    with tempfile.TemporaryDirectory(prefix="postgres-tls-") as folder:
        made = Secured(Path(folder))
        yield made
        made.server.remove()


@pytest.fixture
def url(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database, and the environment that the chart gives with `mode: verify-full`."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(secured.authority))
    return secured.server.url()


async def test_a_verified_connection_is_encrypted(url: str) -> None:
    migrate.upgrade(database_url(url))
    database = Database(database_url(url))
    async with database.read_transaction() as connection:
        encrypted = await connection.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    await database.close()
    assert encrypted is True


async def test_another_authority_is_refused_and_named(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("PGSSLROOTCERT", str(other))
    await refused(url, "certificate verify failed")


async def test_another_host_name_is_refused_and_named(url: str) -> None:
    await refused(url.replace("127.0.0.1", "localhost"), 'does not match host name "localhost"')


async def refused(url: str, message: str) -> None:
    """Neither a migration nor a stage connects, and the error says why."""
    with pytest.raises(Unavailable, match=message):
        schema_check.require_schema(database_url(url))
    database = Database(database_url(url))
    with pytest.raises(Unavailable, match=message):
        await database.ping()
    await database.close()
