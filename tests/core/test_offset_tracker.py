"""The offset tracker: records complete in any order, commits are contiguous, a restart loses nothing."""

import base64
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.records.offset_tracker import MAX_METADATA_BYTES, WINDOW_OFFSETS, Commit, OffsetTracker

# Offsets may have gaps: compaction and control records.
offsets = st.lists(st.integers(1, 40), min_size=1, max_size=40).map(lambda gaps: list(running_sums(gaps)))


def running_sums(gaps: list[int]) -> Iterator[int]:
    total = 0
    for gap in gaps:
        total += gap
        yield total


def is_complete_in(commit: Commit, offset: int) -> bool:
    """Whether a process that starts at this commit skips `offset`."""
    return offset < commit.offset or not OffsetTracker(commit.offset, commit.metadata).open(offset)


def commit_if_pending(tracker: OffsetTracker, before: Commit) -> Commit:
    commit = tracker.next_commit()
    if commit is None:
        return before
    tracker.confirm_commit(commit)
    return commit


@given(offsets, st.data())
def test_no_commit_passes_an_open_record(offsets: list[int], data: st.DataObject) -> None:
    tracker, commit = OffsetTracker(), Commit(0, "")
    unread, opened, complete = list(offsets), set[int](), set[int]()
    while unread or opened:
        if unread and (not opened or data.draw(st.booleans())):
            opened.add(offset := unread.pop(0))
            assert tracker.open(offset)
        else:
            opened.remove(offset := data.draw(st.sampled_from(sorted(opened))))
            complete.add(offset)
            tracker.complete(offset)
        commit = commit_if_pending(tracker, commit)
        assert tracker.open_count == len(opened)
        assert {offset for offset in offsets if is_complete_in(commit, offset)} == complete
    assert commit == Commit(offsets[-1] + 1, "")


@given(offsets, st.data())
def test_crashes_repeat_only_uncommitted_records(offsets: list[int], data: st.DataObject) -> None:
    committed = Commit(0, "")
    times = dict.fromkeys(offsets, 0)
    for crash in range(4):
        tracker, opened = OffsetTracker(committed.offset, committed.metadata), set[int]()
        safe = {offset for offset in offsets if is_complete_in(committed, offset)}
        for offset in offsets:
            if offset < committed.offset:
                continue
            if tracker.open(offset):
                assert offset not in safe
                opened.add(offset)
        for offset in data.draw(st.permutations(sorted(opened))):
            times[offset] += 1
            tracker.complete(offset)
            if data.draw(st.booleans()):
                committed = commit_if_pending(tracker, committed)
            if crash < 3 and data.draw(st.booleans()):
                break
    assert all(times.values())


def test_metadata_has_complete_records_beyond_the_offset() -> None:
    tracker = OffsetTracker(100)
    for offset in range(100, 110):
        tracker.open(offset)
    for offset in (101, 105, 109):
        tracker.complete(offset)
    commit = tracker.next_commit()
    assert commit is not None
    assert commit.offset == 100
    restarted = OffsetTracker(commit.offset, commit.metadata)
    assert [offset for offset in range(100, 110) if not restarted.open(offset)] == [101, 105, 109]


def test_a_full_window_fits_into_commit_metadata() -> None:
    tracker = OffsetTracker()
    offset = 0
    while tracker.is_within_window(offset):
        tracker.open(offset)
        offset += 1
    assert offset == WINDOW_OFFSETS
    for odd in range(1, offset, 2):
        tracker.complete(odd)
    tracker.complete(offset - 2)
    commit = tracker.next_commit()
    assert commit is not None
    assert commit.offset == 0
    assert len(commit.metadata.encode()) <= MAX_METADATA_BYTES


def test_the_window_moves_when_the_first_open_record_completes() -> None:
    tracker = OffsetTracker(window=10)
    for offset in range(10):
        tracker.open(offset)
    assert not tracker.is_within_window(10)
    tracker.complete(5)
    assert not tracker.is_within_window(10)
    tracker.complete(0)
    assert tracker.is_within_window(10)
    assert not tracker.is_within_window(11)


def test_a_gap_of_offsets_leaves_nothing_open() -> None:
    tracker = OffsetTracker(5)
    assert tracker.next_commit() is None
    assert tracker.is_within_window(10**9)
    tracker.open(10**9)
    assert tracker.next_commit() == Commit(10**9, "")
    tracker.complete(10**9)
    assert tracker.next_commit() == Commit(10**9 + 1, "")


def test_a_complete_record_may_be_gone_after_a_restart() -> None:
    before = OffsetTracker()
    for offset in range(4):
        before.open(offset)
    before.complete(2)
    commit = before.next_commit()
    assert commit is not None
    after = OffsetTracker(commit.offset, commit.metadata)
    assert after.open(3)
    after.complete(3)
    assert after.next_commit() == Commit(4, "")


def test_an_acknowledged_commit_is_not_pending() -> None:
    tracker = OffsetTracker()
    tracker.open(0)
    tracker.complete(0)
    commit = tracker.next_commit()
    assert commit is not None
    tracker.confirm_commit(commit)
    assert tracker.next_commit() is None


def test_a_restart_has_nothing_to_commit() -> None:
    tracker = OffsetTracker()
    for offset in range(3):
        tracker.open(offset)
    tracker.complete(1)
    commit = tracker.next_commit()
    assert commit is not None
    assert OffsetTracker(commit.offset, commit.metadata).next_commit() is None


def test_an_offset_cannot_be_opened_twice() -> None:
    tracker = OffsetTracker()
    tracker.open(3)
    with pytest.raises(ValueError, match="offset 3 is opened after 3"):
        tracker.open(3)


@given(st.integers(0, 100), st.text(max_size=50) | st.binary(max_size=50).map(lambda raw: "1:" + raw.hex()))
def test_any_metadata_is_accepted(start: int, metadata: str) -> None:
    tracker = OffsetTracker(start, metadata)
    for offset in range(start, start + 500):
        if tracker.open(offset):
            tracker.complete(offset)
    assert tracker.open_count == 0


def test_foreign_metadata_is_ignored() -> None:
    for metadata in ("", "2:" + base64.b64encode(b"\xff").decode(), "1:%%%", "1:ä", "checkpoint"):
        assert OffsetTracker(0, metadata).open(0)


def test_a_topic_that_was_made_again_is_read_as_new() -> None:
    earlier = OffsetTracker(100)
    for offset in (100, 102):
        earlier.open(offset)
    earlier.complete(102)
    commit = earlier.next_commit()
    assert commit is not None
    tracker = OffsetTracker(commit.offset, commit.metadata)
    assert tracker.is_restored(102)
    # An offset before the commit: the topic is another one now, and so is its record 102.
    tracker.open(0)
    assert not tracker.is_restored(102)
    assert tracker.open(102)
