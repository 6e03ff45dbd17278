"""An owner erases a learner, after a question."""

import re

import pytest
from dashboard.pages import FakeBrowser, signed_in

from builders import EXAMPLE, attempt, delivery
from rest.api_fixture import ApiFixture
from streams.core.deliveries.delivery import Delivery
from streams.features.learners import service

LEARNER = str(EXAMPLE["learnerId"])


async def delivered(api: ApiFixture) -> Delivery:
    made = await api.acme.webhook()
    known = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    await api.record(delivery(**known), attempt(**known))
    return delivery(**known)


async def test_a_learner_is_erased_after_a_question(api: ApiFixture, browser: FakeBrowser) -> None:
    done = await delivered(api)
    assert "Erase a learner" in (await browser.open("/account")).text
    question = await browser.send("/account/learners", learner=f" {LEARNER} ")
    assert "This cannot be undone. 1 delivery of this learner's events" in question.text
    assert LEARNER not in question.path
    page = await browser.confirm(question)
    assert re.fullmatch(r"/account/erasures/ers_\w+", page.path)
    assert "A learner is erased" in page.text
    assert LEARNER not in page.html
    assert "session-events 7 days" in page.text
    delivery_page = await browser.open(f"/deliveries/{done.id}")
    assert "Its learner was erased." in delivery_page.text
    assert "Send again" not in delivery_page.text


async def test_an_unknown_learner_is_said_before_the_question(browser: FakeBrowser) -> None:
    page = await browser.send("/account/learners", learner="Nobody <b>")
    assert "Erase Nobody <b> ?" in page.text
    assert "No delivery of this learner's events is stored." in page.text


@pytest.mark.parametrize("learner", ["", "a" * 1025])
async def test_a_wrong_id_is_named_at_its_field(browser: FakeBrowser, learner: str) -> None:
    for path in ("/account/learners", "/account/learners/erase"):
        page = await browser.send(path, learner=learner)
        assert (page.status, "must be a text of 1 to 1024 characters" in page.text) == (422, True)


async def test_a_form_that_is_sent_twice_erases_once(api: ApiFixture, browser: FakeBrowser) -> None:
    question = await browser.send("/account/learners", learner=LEARNER)
    pages = {(await browser.confirm(question)).path for _ in range(2)}
    assert len(pages) == 1
    [_] = (await api.acme.get("/v1/account/audit", action="learner.erased"))["data"]


async def test_a_running_erasure_shows_its_progress(
    api: ApiFixture, browser: FakeBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FINISH_WAIT_SECONDS", 0.0)
    page = await browser.confirm(await browser.send("/account/learners", learner=LEARNER))
    assert "A learner is being erased" in page.text
    assert "It goes on without this page." in page.text


@pytest.mark.usefixtures("no_publication_wait")
async def test_an_erasure_that_waits_for_its_topic_is_said(api: ApiFixture, browser: FakeBrowser) -> None:
    api.publisher.works = False
    page = await browser.confirm(await browser.send("/account/learners", learner=LEARNER))
    assert "an event that waits may still be sent" in page.text
    api.publisher.works = True
    assert "may still be sent" not in (await browser.open(page.path)).text


async def test_members_and_other_accounts_erase_nothing(api: ApiFixture, browser: FakeBrowser) -> None:
    member = await signed_in(api, "member")
    assert "Erase a learner" not in (await member.open("/account")).text
    assert (await member.send("/account/learners/erase", learner=LEARNER)).status == 403
    erasure = await api.globex.post("/v1/learners/erase", {"learnerId": LEARNER})
    assert (await browser.open(f"/account/erasures/{erasure['id']}")).status == 404
    await member.close()
