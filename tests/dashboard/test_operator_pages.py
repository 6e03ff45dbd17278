"""An operator sees what needs help in all accounts, and looks at one of them."""

from datetime import timedelta

from dashboard.pages import FakeBrowser, signed_in

from builders import NOON, attempt
from rest.api_fixture import OPERATOR_KEY, ApiFixture
from streams.adapters.sql.failed_work import SqlFailedWork
from streams.core.accounts.usage import UnknownAccount
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.failed_work import FailedWork, WorkKind
from streams.features.usage.unknown_accounts import SqlUnknownAccounts


async def operator(api: ApiFixture) -> FakeBrowser:
    browser = FakeBrowser(api)
    page = await browser.send("/operator/sign-in", key=OPERATOR_KEY)
    assert page.path == "/operator", page.text
    return browser


async def test_only_an_operator_key_opens_the_pages(api: ApiFixture) -> None:
    browser = FakeBrowser(api)
    assert (await browser.open("/operator")).path == "/operator/sign-in"
    for wrong in ("", "nonsense", api.acme.key):
        page = await browser.send("/operator/sign-in", key=wrong)
        assert (page.status, "is not an operator key" in page.text) == (403, True)
    owner = await signed_in(api)
    for path in ("/operator", "/operator/stages"):
        assert (await owner.open(path)).path == "/operator/sign-in"
    for path in ("/operator/accounts", f"/operator/accounts/{api.globex.account_id}/enter", "/operator/leave"):
        assert (await owner.send(path, role="owner", account_name="Mine")).path == "/operator/sign-in"
    assert "globex" not in (await owner.open("/")).text
    await owner.close()


async def test_guesses_of_the_key_are_limited(api: ApiFixture) -> None:
    browser = FakeBrowser(api)
    for _ in range(31):
        page = await browser.send("/operator/sign-in", key="guess")
    assert "Too many attempts" in page.text


async def test_an_operator_opens_an_account_and_sets_its_limit(api: ApiFixture) -> None:
    browser = await operator(api)
    page = await browser.send("/operator/accounts", account_name="", emails="nonsense", plan_limit="10")
    assert (page.status, "must not be empty" in page.text) == (422, True)
    assert 'value="10"' in page.html
    page = await browser.send("/operator/accounts", account_name="Initech", emails="a@b.example\nc@d.example")
    assert "The account Initech" in page.text
    assert "sk_" in page.text
    [made] = [one for one in (await api.operator.get("/v1/accounts"))["data"] if one["name"] == "Initech"]
    assert made["emails"] == ["a@b.example", "c@d.example"]
    await browser.send(f"/operator/accounts/{made['id']}/plan-limit", plan_limit="5000")
    assert (await api.operator.get(f"/v1/accounts/{made['id']}"))["planLimit"] == 5000
    await browser.send(f"/operator/accounts/{made['id']}/plan-limit", plan_limit="")
    assert "planLimit" not in await api.operator.get(f"/v1/accounts/{made['id']}")
    page = await browser.open("/operator?name=initech")
    assert "Initech" in page.text
    assert "globex" not in page.text


async def test_failing_and_slow_webhooks_of_all_accounts_are_shown(api: ApiFixture) -> None:
    made = await api.globex.webhook(description="Warehouse")
    mine = {"account_id": api.globex.account_id, "webhook_id": made["id"]}
    await api.record(attempt(**mine, outcome=OutcomeKind.REFUSED, status=None, message="refused"))
    page = await (await operator(api)).open("/operator")
    assert "globex" in page.text
    assert "Warehouse" in page.text
    assert "refused" in page.text


async def test_the_lag_of_each_stage_is_shown(api: ApiFixture) -> None:
    page = await (await operator(api)).open("/operator/stages")
    assert "deliver 12" in page.text


async def test_an_account_sees_that_an_operator_looks_at_it(api: ApiFixture) -> None:
    browser = await operator(api)
    page = await browser.send(f"/operator/accounts/{api.globex.account_id}/enter", role="viewer")
    assert page.path == "/"
    assert "globex" in page.text
    assert (await browser.open("/webhooks/new")).status == 403
    entries = (await api.globex.get("/v1/account/audit"))["data"]
    assert (entries[0]["action"], entries[0]["actor"]) == ("account.entered", "operator:ada")
    page = await browser.send("/operator/leave")
    assert page.path == "/operator"
    assert (await browser.open("/webhooks")).path == "/operator"
    assert (await browser.send("/operator/accounts/acc_nobody/enter", role="viewer")).status == 404


async def test_a_session_ends_with_its_operator_key(api: ApiFixture) -> None:
    browser = await operator(api)
    api.access._operators = ()
    api.app.state.services.access._operators = ()
    assert (await browser.open("/operator")).path == "/operator/sign-in"


async def test_events_of_accounts_that_do_not_exist_are_shown(api: ApiFixture) -> None:
    browser = await operator(api)
    assert "accounts that do not exist" not in (await browser.open("/operator")).text
    await SqlUnknownAccounts(api.database).add([UnknownAccount("acc_mistyped", 3, NOON, NOON)])
    page = await browser.open("/operator")
    assert "acc_mistyped 3" in page.text
    assert "nobody gets them" in page.text


async def test_work_that_fails_is_shown(api: ApiFixture) -> None:
    browser, log = await operator(api), SqlFailedWork(api.database)
    assert "Work that fails" not in (await browser.open("/operator")).text
    old, now = api.clock.now() - timedelta(hours=1), api.clock.now()
    await log.note(FailedWork(WorkKind.MAIL, "mail_1", "acme", "of an ended process", 1, old, old))
    await log.note(FailedWork(WorkKind.HELD_DELIVERY, "del_1", "acme", "ValueError: 'moon'", 7, now, now))
    page = await browser.open("/operator")
    assert "held delivery del_1 acme 7" in page.text
    assert "ValueError: 'moon'" in page.text
    assert "mail_1" not in page.text
