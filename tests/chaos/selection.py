"""The scenarios of one run: a third by the number of commits, and those of the stages that the last commit touches."""

import os
import subprocess
from collections.abc import Iterable, Sequence

import parts

# The stages that each scenario is about. The others concern all stages, and are played by number alone.
STAGES_OF: dict[str, tuple[str, ...]] = {
    "rolling-restart": ("fan-out", "deliver", "record"),
    "pause-and-enable": ("record", "publish"),
    "rotate-and-replay": ("publish", "maintain"),
    "invalid-events-and-copies": ("fan-out",),
    "kill-api": ("api",),
    "meter": ("meter",),
    "broker-kill": ("fan-out", "deliver"),
    "database-stop": ("record",),
    "rebalance-storm": ("deliver", "record"),
    "freeze-deliver": ("deliver",),
    "freeze-publish": ("publish",),
    "two-publishers": ("publish",),
    "wrong-clock": ("fan-out", "deliver"),
    "topic-recreated": ("publish",),
    "database-restore": ("publish", "restore"),
    "invalid-records": ("deliver", "record"),
    "wrong-key": ("deliver",),
    "missing-topic": ("deliver",),
    "file-descriptors": ("deliver",),
    "encryption-keys": ("publish",),
    "retry-schedule": ("deliver",),
    "processes": ("fan-out", "deliver"),
    "fan-out-consumer": ("fan-out",),
    "partitions": ("deliver", "meter", "maintain", "background"),
    "classic": ("classic groups",),
}
# Where a stage's own code is. A path is a file or a folder.
CODE_OF: dict[str, tuple[str, ...]] = {
    "streams/stages/fan_out.py": ("fan-out",),
    "streams/adapters/faust": ("fan-out",),
    "streams/core/events/matching.py": ("fan-out",),
    "streams/stages/consuming/event_reader.py": ("fan-out",),
    "streams/stages/consuming/read_ahead.py": ("fan-out",),
    "streams/stages/deliver.py": ("deliver",),
    "streams/stages/attempt.py": ("deliver",),
    "streams/stages/access_tokens.py": ("deliver",),
    "streams/stages/limiting": ("deliver",),
    "streams/adapters/http": ("deliver",),
    "streams/stages/consuming/partition_consumer.py": ("deliver",),
    "streams/stages/consuming/partition_state.py": ("deliver",),
    "streams/stages/consuming/commits.py": ("deliver",),
    "streams/stages/consuming/deduplicator.py": ("deliver",),
    "streams/stages/consuming/newer_record.py": ("deliver", "record"),
    "streams/stages/consuming/batch_consumer.py": ("record", "meter"),
    "streams/stages/consuming/stored_offsets.py": ("fan-out", "record", "meter"),
    "streams/stages/consuming/write_buffer.py": ("record", "meter"),
    "streams/stages/invalid_records.py": ("fan-out", "deliver", "record"),
    "streams/stages/record.py": ("record",),
    "streams/adapters/sql/deliveries/recorder.py": ("record",),
    "streams/features/usage/stage.py": ("meter",),
    "streams/features/usage/storage.py": ("meter",),
    "streams/stages/publish.py": ("publish",),
    "streams/stages/publish_erasures.py": ("publish",),
    "streams/stages/release_held.py": ("publish",),
    "streams/stages/probe_paused.py": ("publish",),
    "streams/stages/end_pulls.py": ("publish",),
    "streams/stages/outgoing_events.py": ("publish",),
    "streams/stages/lease.py": ("publish", "maintain"),
    "streams/features/replays/stage.py": ("maintain",),
    "streams/stages/retention.py": ("maintain",),
    "streams/stages/overdue_retries.py": ("maintain",),
    "streams/stages/postponed_work.py": ("publish", "maintain"),
    "streams/features/course_sessions/stage.py": ("api",),
    "streams/features/learners/stage.py": ("maintain",),
    "streams/features/replays/backfill.py": ("maintain",),
    "streams/stages/backlog_metrics.py": ("maintain",),
    "streams/adapters/sql/webhooks/outbox.py": ("publish",),
    "streams/adapters/sql/deliveries/held.py": ("publish",),
    "streams/runtime/restore.py": ("restore",),
    "streams/adapters/dumps": ("restore",),
    "api/course_sessions": ("api",),
    "streams/features/course_sessions/service.py": ("api",),
    "streams/runtime/background.py": ("background",),
    "streams/runtime/running_stage.py": ("background",),
    "streams/adapters/kafka/admin/topics_admin.py": ("background",),
    "streams/adapters/kafka/consuming/group_protocol.py": ("classic groups",),
    "streams/adapters/kafka/consuming/consumer_thread.py": ("classic groups",),
}
THIRDS = 3


def stages_of(file: str) -> set[str]:
    """The stages whose own code a file is."""
    found = [stages for place, stages in CODE_OF.items() if file == place or file.startswith(place + "/")]
    return {stage for stages in found for stage in stages}


def select(names: Sequence[str], commits: int, files: Iterable[str]) -> list[str]:
    """The scenarios for a commit: it is the `commits`-th one, and changes `files`."""
    touched = {stage for file in files for stage in stages_of(file)}
    return [
        name
        for number, name in enumerate(names)
        if number % THIRDS == commits % THIRDS or touched.intersection(STAGES_OF.get(name, ()))
    ]


def selected(names: Sequence[str]) -> list[str]:
    """The scenarios for the commit of this checkout; all of them for `make nightly`, and where git has no history."""
    if os.environ.get("NIGHTLY"):
        return list(names)
    try:
        commits, files = _git("rev-list", "--count", "HEAD"), _git("diff", "--name-only", "HEAD~1", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return list(names)
    return select(names, int(commits), files.splitlines())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=parts.ROOT, capture_output=True, text=True, check=True).stdout
