"""The encryption key that an embedded deployment generates."""

import threading
from pathlib import Path

from streams.runtime.deployment import Deployment


def test_concurrent_processes_use_one_key(tmp_path: Path) -> None:
    made: list[str] = []
    together = threading.Barrier(20)

    def start(folder: Path) -> None:
        products = Deployment.from_environment({"SCORM_WEBHOOKS_DATA_DIR": str(folder)})
        together.wait()
        made.append(products._embedded_key())

    for number in range(10):
        folder = tmp_path / str(number)
        starting = [threading.Thread(target=start, args=(folder,)) for _ in range(20)]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        assert len(set(made)) == 1
        assert [path.name for path in folder.iterdir()] == ["encryption.key"]
        assert (folder / "encryption.key").stat().st_mode & 0o777 == 0o600
        made.clear()
