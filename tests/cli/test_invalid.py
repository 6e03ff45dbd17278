"""Invalid records are replayed by their ids."""

from typing import Any

from streams.cli.invalid import _select_records
from streams.core.errors import NotFound


class FakeStored:
    """Stored invalid records of which only `known` exist."""

    def __init__(self, *known: str) -> None:
        self.known = known

    def find(self, record_id: str) -> str:
        if record_id not in self.known:
            raise NotFound(f"there is no invalid record {record_id}")
        return record_id


def test_an_id_without_a_record_stops_no_other() -> None:
    unknown: dict[str, str] = {}
    stored: Any = FakeStored("0-1", "0-3")
    found: list[Any] = list(_select_records(stored, ["0-1", "0-2", "0-3"], None, unknown))
    assert found == ["0-1", "0-3"]
    assert unknown == {"0-2": "there is no invalid record 0-2"}
