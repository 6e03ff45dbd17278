"""People sign in by a mail, a link or a portal link, and sessions end."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from rest.api_fixture import PUBLIC_URL, ApiFixture, errors_of
from streams.core.accounts.access import MANAGE_ACCOUNT, Role, Scope
from streams.core.accounts.session import (
    IDLE_TIMEOUT,
    MAX_CODE_GUESSES,
    MAX_USABLE_SIGN_INS,
    SESSION_LIFETIME,
    format_code,
)
from streams.core.errors import NotFound, Unauthorized
from streams.features.sign_in.service import Browser

ADA = "ada@acme.example"
BROWSER = Browser("192.0.2.7", "Firefox")
MINUTE = timedelta(minutes=1)


async def user(api: ApiFixture, email: str = ADA, account: str = "acme", role: str = "owner") -> dict[str, str]:
    path = f"/v1/accounts/{api.clients[account].account_id}/users"
    made: dict[str, str] = await api.operator.post(path, {"email": email, "role": role})
    return made


async def token_of(url: str) -> str:
    start = f"{PUBLIC_URL}/sign-in/"
    assert url.startswith(start)
    return url.removeprefix(start)


# -- by mail ----------------------------------------------------------------------------------------------------


async def test_a_mailed_code_signs_in_once_in_the_browser_that_asked(api: ApiFixture) -> None:
    ada = await user(api)
    browser = await api.sign_in.send_sign_in_mail("Ada@Acme.example")
    [(email, _, code)] = await api.sign_in_mails()
    assert email == ADA
    with pytest.raises(Unauthorized, match="code is wrong"):
        await api.sign_in.sign_in_by_code("another browser", code, BROWSER)
    opened = await api.sign_in.sign_in_by_code(browser, code.replace(" ", ""), BROWSER)
    assert (opened.session.user_id, opened.session.account_id) == (ada["id"], api.acme.account_id)
    assert (opened.session.address, opened.session.user_agent) == ("192.0.2.7", "Firefox")
    with pytest.raises(Unauthorized, match="used already"):
        await api.sign_in.sign_in_by_code(browser, code, BROWSER)
    assert (await api.sessions.find(opened.token)).id == opened.session.id


async def test_a_mailed_link_signs_in_once_in_any_browser(api: ApiFixture) -> None:
    await user(api)
    browser = await api.sign_in.send_sign_in_mail(ADA)
    [(_, token, code)] = await api.sign_in_mails()
    assert (await api.sign_in.sign_in_by_link(token, BROWSER)).session.email == ADA
    for again in (api.sign_in.sign_in_by_link(token, BROWSER), api.sign_in.sign_in_by_code(browser, code, BROWSER)):
        with pytest.raises(Unauthorized, match="used already"):
            await again


async def test_a_code_and_a_link_expire_after_15_minutes(api: ApiFixture) -> None:
    await user(api)
    browser = await api.sign_in.send_sign_in_mail(ADA)
    [(_, token, code)] = await api.sign_in_mails()
    api.clock.advance(15 * 60)
    for late in (api.sign_in.sign_in_by_link(token, BROWSER), api.sign_in.sign_in_by_code(browser, code, BROWSER)):
        with pytest.raises(Unauthorized, match="expired"):
            await late


async def test_a_code_cannot_be_guessed(api: ApiFixture) -> None:
    await user(api)
    browser = await api.sign_in.send_sign_in_mail(ADA)
    [(_, _, code)] = await api.sign_in_mails()
    for number in range(MAX_CODE_GUESSES):
        with pytest.raises(Unauthorized):
            await api.sign_in.sign_in_by_code(browser, format_code(90_000_000 + number), BROWSER)
    with pytest.raises(Unauthorized):
        await api.sign_in.sign_in_by_code(browser, code, BROWSER)


async def test_a_hundred_guesses_open_nothing(api: ApiFixture) -> None:
    await user(api)
    for _ in range(20):
        browser = await api.sign_in.send_sign_in_mail(ADA)
        for guess in range(MAX_CODE_GUESSES):
            with pytest.raises(Unauthorized):
                await api.sign_in.sign_in_by_code(browser, f"9999 999{guess}", BROWSER)
        # Even the right code is worth nothing after five wrong ones.
        for _, _, code in await api.sign_in_mails():
            with pytest.raises(Unauthorized):
                await api.sign_in.sign_in_by_code(browser, code, BROWSER)


async def test_asking_does_not_reveal_who_has_a_user(api: ApiFixture) -> None:
    await user(api)
    known, unknown = await api.sign_in.send_sign_in_mail(ADA), await api.sign_in.send_sign_in_mail("eve@acme.example")
    assert len(known) == len(unknown)
    assert [email for email, _, _ in await api.sign_in_mails()] == [ADA]
    with pytest.raises(Unauthorized):
        await api.sign_in.sign_in_by_code(unknown, "0000 0001", BROWSER)


async def test_nobody_fills_another_persons_mailbox(api: ApiFixture) -> None:
    await user(api)
    for _ in range(MAX_USABLE_SIGN_INS + 3):
        await api.sign_in.send_sign_in_mail(ADA)
    assert len(await api.sign_in_mails()) == MAX_USABLE_SIGN_INS
    api.clock.advance(15 * 60)
    await api.sign_in.send_sign_in_mail(ADA)
    assert len(await api.sign_in_mails()) == MAX_USABLE_SIGN_INS + 1


@pytest.mark.parametrize("every", [1, 4, 12], ids="asks every {} minutes".format)
async def test_asking_for_mails_keeps_nobody_out(api: ApiFixture, every: int) -> None:
    """A mail with a link that still works is in the mailbox whenever no mail is sent."""
    await user(api)
    for minute in range(120):
        if minute % every == 0:
            await api.sign_in.send_sign_in_mail(ADA)
        if minute % 7 == 0:
            await api.sign_in.send_sign_in_mail(ADA)
            [*_, (_, newest, _)] = await api.sign_in_mails()
            assert (await api.sign_in.sign_in_by_link(newest, BROWSER)).session.email == ADA, minute
        api.clock.advance(60)


async def test_without_a_mail_there_is_no_code(api: ApiFixture) -> None:
    """A code that is in no mail can only be guessed."""
    await user(api)
    for _ in range(MAX_USABLE_SIGN_INS):
        await api.sign_in.send_sign_in_mail(ADA)
    unmailed = await api.sign_in.send_sign_in_mail(ADA)
    codes = {code for _, _, code in await api.sign_in_mails()}
    for number in range(30):
        if format_code(number) not in codes:
            # Each with guesses of its own, as if the first digits were known.
            async with api.database.transaction() as connection:
                await connection.execute(
                    text(f"UPDATE sign_ins SET guesses_left = {MAX_CODE_GUESSES} WHERE guesses_left > 0")
                )
            with pytest.raises(Unauthorized):
                await api.sign_in.sign_in_by_code(unmailed, format_code(number), BROWSER)


async def test_only_sent_mails_count(api: ApiFixture) -> None:
    for _ in range(MAX_USABLE_SIGN_INS + 3):
        await api.sign_in.send_sign_in_mail(ADA)
    await user(api)
    await api.sign_in.send_sign_in_mail(ADA)
    assert len(await api.sign_in_mails()) == 1


async def test_sign_in_mails_are_not_shown_to_the_account(api: ApiFixture) -> None:
    await user(api)
    await api.sign_in.send_sign_in_mail(ADA)
    assert (await api.acme.get("/v1/notifications"))["data"] == []


async def test_a_person_of_several_accounts_chooses(api: ApiFixture) -> None:
    for account, role in (("acme", "viewer"), ("globex", "owner")):
        await user(api, account=account, role=role)
    browser = await api.sign_in.send_sign_in_mail(ADA)
    [(_, _, code)] = await api.sign_in_mails()
    opened = await api.sign_in.sign_in_by_code(browser, code, BROWSER)
    assert opened.session.caller is None
    choices = await api.sessions.account_choices(opened.session)
    assert {choice.account_id for choice in choices} == {api.acme.account_id, api.globex.account_id}
    chosen = await api.sessions.choose(opened.session, api.globex.account_id)
    assert chosen.role is Role.OWNER
    session = await api.sessions.find(opened.token)
    assert (session.account_id, session.role) == (api.globex.account_id, Role.OWNER)
    assert (await api.sessions.choose(session, api.acme.account_id)).role is Role.VIEWER
    with pytest.raises(NotFound):
        await api.sessions.choose(session, "acc_of_nobody")


# -- by a link ---------------------------------------------------------------------------------------------------


async def test_an_operators_link_signs_a_user_in_once(api: ApiFixture) -> None:
    ada = await user(api)
    path = f"/v1/accounts/{api.acme.account_id}/users"
    assert await user(api, "ADA@acme.example") == ada
    link = await api.operator.post(f"{path}/{ada['id']}/sign-in-links")
    assert link["expiresAt"] == "2026-04-10T12:15:00Z"
    token = await token_of(link["url"])
    assert (await api.sign_in.sign_in_by_link(token, BROWSER)).session.user_id == ada["id"]
    with pytest.raises(Unauthorized, match="used already"):
        await api.sign_in.sign_in_by_link(token, BROWSER)
    left = await token_of((await api.operator.post(f"{path}/{ada['id']}/sign-in-links"))["url"])
    await api.operator.delete(f"{path}/{ada['id']}")
    with pytest.raises(Unauthorized):
        await api.sign_in.sign_in_by_link(left, BROWSER)
    assert (await api.operator.request("POST", f"{path}/{ada['id']}/sign-in-links")).status_code == 404


async def test_a_link_for_a_user_proves_no_address(api: ApiFixture) -> None:
    """An owner of globex adds the address of acme's owner, and asks for a link for that user."""
    await user(api)
    typed = await user(api, account="globex", role="viewer")
    path = f"/v1/accounts/{api.globex.account_id}/users/{typed['id']}/sign-in-links"
    token = await token_of((await api.operator.post(path))["url"])
    opened = await api.sign_in.sign_in_by_link(token, BROWSER)
    session = await api.sessions.find(opened.token)
    assert await api.sessions.account_choices(session) == []
    with pytest.raises(NotFound):
        await api.sessions.choose(session, api.acme.account_id)
    assert (await api.sessions.find(opened.token)).account_id == api.globex.account_id


async def test_a_mailed_link_proves_the_address(api: ApiFixture) -> None:
    for account in ("acme", "globex"):
        await user(api, account=account)
    await api.sign_in.send_sign_in_mail(ADA)
    [(_, token, _)] = await api.sign_in_mails()
    opened = await api.sign_in.sign_in_by_link(token, BROWSER)
    assert len(await api.sessions.account_choices(await api.sessions.find(opened.token))) == 2
    chosen = await api.sessions.choose(opened.session, api.acme.account_id)
    assert len(await api.sessions.account_choices(chosen)) == 2


async def test_a_session_of_an_older_release_has_no_choice(api: ApiFixture) -> None:
    """Its row does not say how the address was proved."""
    for account in ("acme", "globex"):
        await user(api, account=account)
    await api.sign_in.send_sign_in_mail(ADA)
    [(_, token, _)] = await api.sign_in_mails()
    opened = await api.sign_in.sign_in_by_link(token, BROWSER)
    async with api.database.transaction() as connection:
        await connection.execute(text("UPDATE sessions SET proved_email = NULL"))
    assert await api.sessions.account_choices(await api.sessions.find(opened.token)) == []


async def test_a_portal_link_has_a_role_and_an_end(api: ApiFixture) -> None:
    path = f"/v1/accounts/{api.acme.account_id}/portal-links"
    wanted = {"role": "viewer", "minutes": 60, "returnUrl": "https://lms.example.com/settings"}
    link = await api.operator.post(path, wanted)
    assert link["expiresAt"] == "2026-04-10T13:00:00Z"
    opened = await api.sign_in.sign_in_by_link(await token_of(link["url"]), BROWSER)
    caller = opened.session.caller
    assert caller
    assert caller.account_id == api.acme.account_id
    assert caller.permissions == frozenset[str]({Scope.WEBHOOKS_READ, Scope.DELIVERIES_READ})
    assert opened.session.return_url == "https://lms.example.com/settings"
    late = await token_of((await api.operator.post(path))["url"])
    api.clock.advance(15 * 60)
    with pytest.raises(Unauthorized):
        await api.sign_in.sign_in_by_link(late, BROWSER)
    for wrong, field in (({"minutes": 0}, "minutes"), ({"minutes": 1441}, "minutes"), ({"role": "root"}, "role")):
        assert field in errors_of(await api.operator.request("POST", path, wrong))
    assert (await api.operator.request("POST", "/v1/accounts/acc_1/portal-links", {})).status_code == 404


RETURN_URLS = [
    ("javascript:alert(1)", "must start with https:// or http://"),
    ("data:text/html,x", "must start with https:// or http://"),
    ("//evil.example", "must start with https:// or http://"),
    ("/settings", "must start with https:// or http://"),
    ("java\tscript:alert(1)", "must be plain ASCII"),
    ("https://lms.example.com@evil.example/", "must not hold a user name or password"),
    ("https://user:secret@lms.example.com/", "must not hold a user name or password"),
    ("https:///settings", "must name a host"),
    ("https://lms.example.com/\\evil.example", "must be plain ASCII"),
    ("https://lms.example.com/" + "x" * 2048, "at most 2048 characters"),
    ("", "must be a URL such as https://example.com"),
]


@pytest.mark.parametrize(("url", "message"), RETURN_URLS, ids=lambda value: repr(value[:30]))
async def test_a_return_url_leads_to_a_page(api: ApiFixture, url: str, message: str) -> None:
    path = f"/v1/accounts/{api.acme.account_id}/portal-links"
    response = await api.operator.request("POST", path, {"returnUrl": url})
    assert message in errors_of(response)["returnUrl"]


@pytest.mark.parametrize("url", ["http://localhost:3000/?a=b", "https://lms.example.com/#/settings"])
async def test_a_return_url_may_have_a_fragment(api: ApiFixture, url: str) -> None:
    link = await api.operator.post(f"/v1/accounts/{api.acme.account_id}/portal-links", {"returnUrl": url})
    opened = await api.sign_in.sign_in_by_link(await token_of(link["url"]), BROWSER)
    assert opened.session.return_url == url


# -- sessions ----------------------------------------------------------------------------------------------------


async def signed_in(api: ApiFixture, role: str = "owner") -> tuple[dict[str, str], str]:
    """A user, and the token of a session."""
    ada = await user(api, role=role)
    link = await api.operator.post(f"/v1/accounts/{api.acme.account_id}/users/{ada['id']}/sign-in-links")
    return ada, (await api.sign_in.sign_in_by_link(await token_of(link["url"]), BROWSER)).token


async def test_a_session_ends_when_it_is_idle_or_old(api: ApiFixture) -> None:
    _, token = await signed_in(api)
    for _ in range(int(SESSION_LIFETIME / IDLE_TIMEOUT)):
        api.clock.advance((IDLE_TIMEOUT - MINUTE).total_seconds())
        await api.sessions.find(token)
    api.clock.advance((IDLE_TIMEOUT - MINUTE).total_seconds())
    with pytest.raises(Unauthorized, match="sign in again"):
        await api.sessions.find(token)
    _, idle = await signed_in(api)
    api.clock.advance(IDLE_TIMEOUT.total_seconds())
    with pytest.raises(Unauthorized, match="sign in again"):
        await api.sessions.find(idle)
    with pytest.raises(Unauthorized):
        await api.sessions.find("unknown")


async def test_a_changed_role_and_a_removed_user_count_at_once(api: ApiFixture) -> None:
    ada, token = await signed_in(api)
    caller = (await api.sessions.find(token)).caller
    assert caller
    assert MANAGE_ACCOUNT in caller.permissions
    path = f"/v1/accounts/{api.acme.account_id}/users/{ada['id']}"
    assert (await api.operator.patch(path, {"role": "member"}))["role"] == "member"
    caller = (await api.sessions.find(token)).caller
    assert caller
    assert MANAGE_ACCOUNT not in caller.permissions
    await api.operator.delete(path)
    with pytest.raises(Unauthorized):
        await api.sessions.find(token)
    assert (await api.operator.request("PATCH", path, {"role": "owner"})).status_code == 404


async def test_sessions_are_listed_and_revoked(api: ApiFixture) -> None:
    ada, token = await signed_in(api)
    path = f"/v1/accounts/{api.acme.account_id}/sessions"
    [listed] = await api.operator.get(path)
    assert (listed["actor"], listed["role"], listed["address"]) == (f"user:{ada['id']}", "owner", "192.0.2.7")
    assert token not in str(listed)
    elsewhere = f"/v1/accounts/{api.globex.account_id}/sessions/{listed['id']}"
    assert (await api.operator.request("DELETE", elsewhere)).status_code == 404
    await api.operator.delete(f"{path}/{listed['id']}")
    assert await api.operator.get(path) == []
    with pytest.raises(Unauthorized):
        await api.sessions.find(token)


async def test_signing_out_ends_the_session(api: ApiFixture) -> None:
    _, token = await signed_in(api)
    await api.sessions.sign_out(await api.sessions.find(token))
    with pytest.raises(Unauthorized):
        await api.sessions.find(token)


async def test_the_audit_log_has_each_sign_in_and_no_token(api: ApiFixture) -> None:
    ada, token = await signed_in(api)
    audit_trail = (await api.acme.get("/v1/account/audit"))["data"]
    actions = [(entry["action"], entry["actor"]) for entry in audit_trail[:3]]
    assert actions == [
        ("session.begun", f"user:{ada['id']}"),
        ("user.sign_in_token_made", "operator:ada"),
        ("user.added", "operator:ada"),
    ]
    assert token not in str(audit_trail)
