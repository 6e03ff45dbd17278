"""The release before, this one, the one before again: under load, and nothing is lost or sent twice."""

import pytest

from kube.loaded import LoadedRelease
from kube.release import STAGES

pytestmark = pytest.mark.kube

CHANGED_SETTING = {"settings.releaseRate": 1000}


def test_an_upgrade_loses_nothing(loaded: LoadedRelease) -> None:
    with loaded.under_load("`helm upgrade` from the release before", name="upgrade") as upgrade:
        loaded.release.upgrade(**CHANGED_SETTING)
    assert upgrade.unexplained() == 0
    assert upgrade.bad_ends() == []
    assert len(upgrade.ends) == len(STAGES)
    # Processes of the revision before find theirs, if they start again.
    assert len(loaded.release.settings()) == 2


def test_a_rollback_loses_nothing(loaded: LoadedRelease) -> None:
    with loaded.under_load("`helm rollback` to it", name="rollback") as rollback:
        loaded.release.rollback()
    assert rollback.unexplained() == 0
    assert rollback.bad_ends() == []


def test_a_second_upgrade_loses_nothing(loaded: LoadedRelease) -> None:
    with loaded.under_load("`helm upgrade` again", name="again") as upgrade:
        loaded.release.upgrade()
    assert upgrade.unexplained() == 0
    assert upgrade.bad_ends() == []
    assert "ready" in loaded.release.test()
