"""Write the next migration: what differs between the declared tables and the migrations, on an empty SQLite.

`make migration ARGS="say what it adds"` writes it into a temporary folder and prints its path.
"""

import argparse
import re
import tempfile
from pathlib import Path

from alembic import command

from streams.adapters.sql.engine.database import database_url
from streams.adapters.sql.engine.migrate import run_command, upgrade
from streams.adapters.sql.engine.schema_check import MIGRATIONS, revisions


def next_revision(head: str) -> str:
    """The id of the migration after `head`: its number, then the oldest schema whose release runs on its tables too.

    That schema is `head`: a migration adds, and the release before does not use what it adds.
    """
    number = int(head.partition(".")[0])
    return f"{number + 1:04}.{number:04}"


def write_migration(message: str, folder: Path) -> Path:
    """Write the migration into a folder. Returns its path."""
    url = database_url(f"sqlite:///{folder}/migrating.db")
    upgrade(url)
    revision = next_revision(revisions()[-1])

    def write(config: object) -> None:
        config.set_main_option("version_locations", f"{MIGRATIONS / 'versions'}:{folder}")  # type: ignore[attr-defined]
        command.revision(config, message, autogenerate=True, rev_id=revision, version_path=folder)  # type: ignore[arg-type]

    run_command(url, write)
    [written] = folder.glob("*.py")
    slug = re.sub(r"\W+", "_", message.lower()).strip("_")
    return written.rename(folder / f"{revision[:4]}_{slug}.py")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make migration", description=__doc__)
    parser.add_argument("message", nargs="+", help="what it adds")
    path = write_migration(" ".join(parser.parse_args().message), Path(tempfile.mkdtemp(prefix="migration-")))
    print(f"{path}\nRead it, and move it to {MIGRATIONS.relative_to(Path.cwd())}/versions.")


if __name__ == "__main__":
    main()
