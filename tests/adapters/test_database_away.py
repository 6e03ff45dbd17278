"""What people read of a database that is away begins with what that means, not with a class of Python."""

import pytest

from streams.adapters.sql.engine.database import Database, database_url
from streams.core.errors import Unavailable


@pytest.mark.parametrize("url", ["postgresql://u@127.0.0.1:1/n?connect_timeout=2", "sqlite:////nowhere/db.sqlite"])
async def test_no_class_name_is_shown(url: str) -> None:
    database = Database(database_url(url))
    with pytest.raises(Unavailable, match="the database does not answer: ") as away:
        await database.ping()
    assert str(away.value).startswith("the database")
    assert "Error" not in str(away.value)
    assert database.readiness_problems() == [str(away.value)]
    await database.close()
