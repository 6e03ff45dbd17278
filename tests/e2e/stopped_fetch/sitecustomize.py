"""Loaded by every Python process of a test: a stage whose file appears in `STOPPED_FETCHES` fetches no more records.

The file is removed at that moment, so that the process that takes its place works. Nothing tells our code.
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["STOPPED_FETCHES"])


def stop_librdkafka(order: Path) -> None:
    import confluent_kafka

    class StoppableConsumer(confluent_kafka.Consumer):
        stopped = False

        def __init__(self, config: dict[str, Any], *arguments: Any, **options: Any) -> None:
            super().__init__(config, *arguments, **options)
            # Not the reader of the subscriptions, and not the client of the watchdog.
            self.is_member = config.get("group.protocol") == "consumer"

        def poll(self, *arguments: Any) -> Any:
            if self.is_member and not self.stopped and order.exists() and self.assignment():
                self.stopped = True
                self.pause(self.assignment())
                order.unlink()
            return super().poll(*arguments)

    confluent_kafka.Consumer = StoppableConsumer  # type: ignore[assignment, misc]


def stop_aiokafka(order: Path) -> None:
    from aiokafka.consumer.fetcher import Fetcher

    fetchers: list[Any] = []
    start = Fetcher.__init__

    def note(self: Any, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        fetchers.append(self)

    Fetcher.__init__ = note

    def watch() -> None:
        while not (fetchers and order.exists()):
            time.sleep(0.05)
        for fetcher in fetchers:
            fetcher._fetch_task.get_loop().call_soon_threadsafe(fetcher._fetch_task.cancel)
        order.unlink()

    threading.Thread(target=watch, daemon=True).start()


if "deliver" in sys.orig_argv:
    stop_librdkafka(FOLDER / "deliver")
if "fan-out" in sys.orig_argv:
    by_faust = os.environ.get("SCORM_WEBHOOKS_FAN_OUT_CONSUMER") == "faust"
    (stop_aiokafka if by_faust else stop_librdkafka)(FOLDER / "fan-out")
