"""An account sees its launches by month, package and dispatch, and hears at once of a lowered limit."""

from collections.abc import Sequence
from datetime import timedelta

from dashboard.pages import signed_in

from builders import NOON
from rest.api_fixture import ApiFixture
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.outgoing_events import SqlOutgoingEvents
from streams.core.accounts.usage import Launch, LaunchBatch
from streams.core.deliveries.backfill import OffsetRange
from streams.features.usage.storage import SqlUsageMeter

MONTH = timedelta(days=31)


async def count(api: ApiFixture, *launches: Launch, late: Sequence[Launch] = ()) -> None:
    meter = SqlUsageMeter(api.database, AvroCodec())
    start = (await meter.positions("topic", [0]))[0]
    assert await meter.count("topic", [OffsetRange(0, start, start + 1)], LaunchBatch(launches, late)) is not None


def launch(
    api: ApiFixture, number: int, package: str = "pkg_1", dispatch: str | None = None, months: int = 0
) -> Launch:
    return Launch(api.acme.account_id, f"evt_{number}", NOON - months * MONTH, package, dispatch)


async def test_usage_is_listed_by_month(api: ApiFixture) -> None:
    states = {"stateBytes": 0, "maxStateBytes": 1024**3}
    month = {"month": "2026-04", "launches": 0, "lateLaunches": 0}
    assert await api.acme.get("/v1/usage") == {"months": [month], **states}
    await count(api, launch(api, 1), launch(api, 2), launch(api, 3, months=1), launch(api, 4, months=2))
    await api.operator.patch(f"/v1/accounts/{api.acme.account_id}", {"planLimit": 1000})
    usage = await api.acme.get("/v1/usage", months=2)
    assert usage == {
        "planLimit": 1000,
        "months": [
            {"month": "2026-04", "launches": 2, "lateLaunches": 0},
            {"month": "2026-03", "launches": 1, "lateLaunches": 0},
        ],
        **states,
    }
    assert (await api.globex.get("/v1/usage"))["months"] == [{"month": "2026-04", "launches": 0, "lateLaunches": 0}]


async def test_late_launches_have_a_number_of_their_own(api: ApiFixture) -> None:
    await count(api, launch(api, 1), late=[launch(api, 2), launch(api, 3)])
    assert (await api.acme.get("/v1/usage"))["months"] == [{"month": "2026-04", "launches": 1, "lateLaunches": 2}]
    page = await (await signed_in(api)).open("/usage")
    assert "Month Launches Late Compared" in page.text
    assert "2026-04 1 2 show" in page.text


async def test_a_month_is_split_by_package_and_dispatch(api: ApiFixture) -> None:
    await count(api, launch(api, 1), launch(api, 2, "pkg_2", "dsp_1"), launch(api, 3, "pkg_2", "dsp_1"))
    first = await api.acme.get("/v1/usage/2026-04", limit=1)
    assert first["data"] == [{"packageId": "pkg_1", "launches": 1}]
    rest = await api.acme.get("/v1/usage/2026-04", cursor=first["nextCursor"])
    assert rest == {"data": [{"packageId": "pkg_2", "dispatchId": "dsp_1", "launches": 2}]}
    assert await api.acme.get("/v1/usage/2026-03") == {"data": []}
    assert await api.globex.get("/v1/usage/2026-04") == {"data": []}
    for wrong in ("x", "a.b.c", "pkg_1", "%00.", "é."):
        assert (await api.acme.request("GET", f"/v1/usage/2026-04?cursor={wrong}")).status_code == 422
    for wrong in ("2026-13", "2026-4", "april"):
        assert (await api.acme.request("GET", f"/v1/usage/{wrong}")).status_code == 422


async def test_a_month_to_come_does_not_hide_the_present_one(api: ApiFixture) -> None:
    await count(api, launch(api, 1), launch(api, 2, months=-5))
    usage = await api.acme.get("/v1/usage")
    assert [one["month"] for one in usage["months"]] == ["2026-09", "2026-04"]
    browser = await signed_in(api)
    assert "1 launch in 2026-04" in (await browser.open("/usage")).text
    await browser.close()


async def test_a_lowered_limit_is_judged_at_once(api: ApiFixture) -> None:
    await count(api, *(launch(api, number) for number in range(9)))
    path = f"/v1/accounts/{api.acme.account_id}"
    outgoing = SqlOutgoingEvents(api.database)
    for limit, expected in ((100, []), (10, [80]), (9, [80, 100]), (1000, [80, 100]), (9, [80, 100])):
        await api.operator.patch(path, {"planLimit": limit})
        events = [AvroCodec().decode(one.value) for one in await outgoing.list_due(10)]
        assert sorted(int(str(one.data["thresholdPercent"])) for one in events) == expected  # type: ignore[union-attr]


async def test_a_person_sees_the_month_against_the_limit(api: ApiFixture) -> None:
    await api.operator.patch(f"/v1/accounts/{api.acme.account_id}", {"planLimit": 8})
    await count(api, launch(api, 1), launch(api, 2, "pkg_2", "=1+1"), launch(api, 3, months=1))
    browser = await signed_in(api, "viewer")
    page = await browser.open("/usage")
    assert "2 launches in 2026-04 of 8 in the plan (25.0 %)" in page.text
    assert "pkg_2" in page.text
    assert "pkg_1 – 1" in (await browser.open("/usage?month=2026-03")).text
    assert (await browser.open("/usage?month=x")).status == 422
    written = await browser.open("/usage/2026-04.csv")
    assert written.html.splitlines()[0] == "month,package,dispatch,launches"
    assert "2026-04,pkg_1,,1" in written.html
    assert (await browser.open("/usage/x.csv")).status == 422
    await browser.close()
