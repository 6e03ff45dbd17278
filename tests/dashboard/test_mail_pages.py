"""An owner chooses the notices that are mailed."""

import pytest
from dashboard.pages import signed_in

from rest.api_fixture import ApiFixture
from streams.core.accounts.mail import NOTICE_KINDS

pytestmark = pytest.mark.slow


async def test_an_owner_chooses_the_mails_of_the_account(api: ApiFixture) -> None:
    owner, viewer = await signed_in(api, "owner"), await signed_in(api, "viewer")
    page = await owner.open("/notifications")
    assert page.html.count('name="mailed"') == page.html.count(" checked>") == len(NOTICE_KINDS)
    saved = await owner.send("/notifications", mailed=["paused", "dead_letters"])
    assert "Saved." in saved.text
    assert saved.html.count(" checked>") == 2
    account = await api.operator.get(f"/v1/accounts/{api.acme.account_id}")
    assert account["mutedMails"] == [
        "failing",
        "still_paused",
        "recovered",
        "secret_ending",
        "certificate_ending",
        "quota",
    ]
    assert "An owner of the account chooses." in (await viewer.open("/notifications")).text
    await owner.close()
    await viewer.close()
