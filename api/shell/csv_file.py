"""A download of rows as CSV (RFC 4180), sent while they are read."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from starlette.responses import StreamingResponse

from streams.request_owner import RequestOwner, current_owner, work_for

Row = TypeVar("Row")


async def csv_response(
    filename: str, header: Sequence[str], rows: AsyncIterator[Row], cells: Callable[[Row], Sequence[object]]
) -> StreamingResponse:
    """The response with these rows. No cell may contain a comma, a quotation mark or a line break: ids do not.

    Errors of the request are raised here, before the response begins.
    """
    first_row = await anext(rows, None)
    headers = {"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"}
    lines = _lines(header, first_row, rows, cells, current_owner())
    return StreamingResponse(lines, headers=headers, media_type="text/csv; charset=utf-8")


async def _lines(
    header: Sequence[str],
    first_row: Row | None,
    rows: AsyncIterator[Row],
    cells: Callable[[Row], Sequence[object]],
    owner: RequestOwner | None,
) -> AsyncIterator[str]:
    yield _line(header)
    row = first_row
    while row is not None:
        yield _line(cells(row))
        # Reads after the response began count for the account too.
        with work_for(owner):
            row = await anext(rows, None)


def _line(cells: Sequence[object]) -> str:
    return ",".join("" if cell is None else str(cell) for cell in cells) + "\r\n"
