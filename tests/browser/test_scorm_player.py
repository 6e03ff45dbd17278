"""A real player in a real browser plays our courses, and the webhook receives exactly the events of the learner."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, expect

import parts
from browser.course_site import CourseSite, running_site
from browser.running import Customer, Dashboard
from conftest import left_out
from e2e.system import until
from streams.features.course_sessions.scorm_time import parse_length

pytestmark = pytest.mark.slow

STANDARDS = ("1.2", "2004")
PLAIN: dict[str, Any] = {
    "renderCommonCommitFields": False,
    "includeCommitSequence": False,
    "enableOfflineSupport": False,
}
COMMON = {"renderCommonCommitFields": True}
FORMATS = [
    {**PLAIN, "dataCommitFormat": commit_format, "useAsynchronousCommits": is_async}
    for commit_format in ("json", "flattened", "params")
    for is_async in (False, True)
]
RIGHT = [
    ("session.launched", None, None),
    ("session.scored", 100, None),
    ("session.completed", 100, "passed"),
]

SCORM_2004 = ("score.raw", "success_status", "entry")

# What a platform gives to the player at a relaunch.
LOADED = {
    "1.2": {"cmi": {"core": {"lesson_status": "passed", "score": {"raw": "100"}, "total_time": "01:00:00"}}},
    "2004": {"cmi": {"completion_status": "completed", "success_status": "passed", "total_time": "PT1H"}},
}


@pytest.fixture(scope="module")
def site() -> Iterator[CourseSite]:
    player = parts.player()
    if player is None:
        left_out("SCORM player")
    with running_site(player) as site:
        yield site


@pytest.fixture
def learner(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context()
    context.set_default_timeout(20_000)
    yield context
    context.close()


@dataclass
class Learning:
    """A session of one learner, as the platform, the learner's page and the endpoint see it."""

    dashboard: Dashboard
    customer: Customer
    site: CourseSite
    standard: str
    session: str
    path: str

    def launch(self, context: BrowserContext, settings: dict[str, Any], loaded: Any = None, **more: Any) -> Page:
        """Open the session and its page."""
        new = {"packageId": "pkg_1", "learnerId": "Ada", "sessionId": self.session, **more}
        opened = self.customer.post("/v1/sessions", new)
        page = context.new_page()
        page.goto(self.site.launch(self.standard, opened["commitUrl"], settings, loaded or opened.get("stored")))
        expect(course(page).get_by_role("status")).to_have_text("Started.")
        return page

    def events(self) -> list[tuple[str, Any, Any]]:
        """What the endpoint received, each event once: type, raw score and success."""
        found = {one.body: json.loads(one.body) for one in self.dashboard.receiver.at(self.path)}.values()
        return [
            (one["type"], one["data"].get("scoreRaw"), one["data"].get("successStatus"))
            for one in found
            if one["data"]["sessionId"] == self.session
        ]

    def expect(self, *events: tuple[str, Any, Any]) -> None:
        """Wait for these events; the order of deliveries is not promised."""
        until(lambda: sorted(self.events(), key=str) == sorted(events, key=str), 20, lambda: str(self.events()))

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.customer.api.get(f"/v1/sessions/{self.session}").json()
        return found


@pytest.fixture(params=STANDARDS)
def learning(request: pytest.FixtureRequest, dashboard: Dashboard, site: CourseSite) -> Learning:
    customer = dashboard.customer("A platform")
    path = f"/scorm/{customer.id}"
    customer.webhook(dashboard.receiver.url(path))
    return Learning(dashboard, customer, site, request.param, "sess_1", path)


def course(page: Page) -> FrameLocator:
    return page.frame_locator("iframe")


def press(page: Page, button: str, then: str) -> None:
    course(page).get_by_role("button", name=button).click()
    expect(course(page).get_by_role("status")).to_have_text(then)


@pytest.mark.parametrize(
    "settings",
    [*FORMATS, {}, {"useAsynchronousCommits": True}, COMMON],
    ids=lambda one: "-".join(str(value) for value in one.values()) or "as-we-say",
)
def test_each_format_reports_the_learner(learning: Learning, learner: BrowserContext, settings: dict[str, Any]) -> None:
    page = learning.launch(learner, settings)
    press(page, "Look for the cause", "Wrong. Try again.")
    press(page, "Warn the people around me", "Right.")
    press(page, "Finish", "Finished.")
    events = [*RIGHT, ("session.scored", 20, None)]
    if learning.standard == "2004":
        # Its completion does not wait for its success.
        events.append(("session.completed", 20, "failed"))
    learning.expect(*events)


def test_a_finish_is_sent_by_a_beacon(learning: Learning, learner: BrowserContext) -> None:
    page = learning.launch(learner, {"autocommit": False})
    beacons: list[str] = []
    page.on("request", lambda sent: beacons.append(sent.resource_type) if sent.method == "POST" else None)
    press(page, "Finish", "Finished.")
    until(lambda: "lastCommitAt" in learning.state(), 20, "the last commit stored")
    assert beacons == ["ping"]
    learning.expect(RIGHT[0])


def test_a_closed_tab_loses_no_answer(learning: Learning, learner: BrowserContext) -> None:
    page = learning.launch(learner, {})
    press(page, "Warn the people around me", "Right.")
    page.close(run_before_unload=True)
    learning.expect(*RIGHT)


def test_an_answer_without_a_network_arrives_later(learning: Learning, learner: BrowserContext) -> None:
    page = learning.launch(learner, {})
    learner.set_offline(True)
    press(page, "Warn the people around me", "Right.")
    assert learning.events() in ([], [RIGHT[0]])
    learner.set_offline(False)
    learning.expect(*RIGHT)
    press(page, "Finish", "Finished.")
    learning.expect(*RIGHT)


def test_a_relaunch_reports_only_what_is_new(learning: Learning, learner: BrowserContext) -> None:
    known = {
        "completionStatus": "completed",
        "successStatus": "passed",
        "scoreRaw": 100,
        "scoreMin": 0,
        "scoreMax": 100,
    }
    if learning.standard == "2004":
        known["scoreScaled"] = 1
    page = learning.launch(learner, {}, LOADED[learning.standard], known={**known, "totalTime": "PT1H"})
    press(page, "Warn the people around me", "Right.")
    press(page, "Look for the cause", "Wrong. Try again.")
    press(page, "Finish", "Finished.")
    learning.expect(RIGHT[0], ("session.scored", 20, None))
    seconds = parse_length(learning.state()["totalTime"])
    assert seconds is not None
    assert 3600 <= seconds < 3700


def test_what_the_player_says_after_a_commit_resumes_the_course(learning: Learning, learner: BrowserContext) -> None:
    page = learning.launch(learner, {})
    commit = "LMSCommit" if learning.standard == "1.2" else "Commit"
    page.evaluate(f"api.on('{commit}', () => {{ window.kept = api.renderCMIToJSONObject() }})")
    press(page, "Warn the people around me", "Right.")
    page.wait_for_function("window.kept")
    stored = page.evaluate("window.kept")
    page.close()
    again = learning.launch(learner, {}, stored)
    read = "api.LMSGetValue('cmi.core.score.raw')" if learning.standard == "1.2" else "api.GetValue('cmi.score.raw')"
    assert again.evaluate(read) == "100"


@pytest.mark.parametrize("leaves", ["Finish", "closes the tab"])
@pytest.mark.parametrize(
    "settings", [{}, COMMON, {**PLAIN, "dataCommitFormat": "flattened"}], ids=["json", "common", "flat"]
)
def test_a_platform_without_a_store_resumes_the_course(
    learning: Learning, learner: BrowserContext, settings: dict[str, Any], leaves: str
) -> None:
    page = learning.launch(learner, settings, keepState=True)
    press(page, "Warn the people around me", "Right.")
    if leaves == "Finish":
        press(page, "Finish", "Finished.")
    page.close()
    learning.expect(*RIGHT)
    until(lambda: learning.state().get("storedState") == "stored", 20, lambda: str(learning.state()))
    learning.session = "sess_2"
    again = learning.launch(learner, settings, keepState=True)
    names = ("core.score.raw", "core.lesson_status", "core.entry") if learning.standard == "1.2" else SCORM_2004
    read = "LMSGetValue" if learning.standard == "1.2" else "GetValue"
    found = [again.evaluate(f"(window.API || API_1484_11).{read}('cmi.{name}')") for name in names]
    assert found == ["100", "passed", "resume"]
    press(again, "Save", "Saved.")
    # All that the course says is known.
    until(lambda: "lastCommitAt" in learning.state(), 20, "a commit")
    assert [one["type"] for one in learning.state()["events"]] == ["session.launched"]
