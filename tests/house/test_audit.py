"""The audit of dependencies says what is known of them, and never that nothing is known when nobody was asked."""

import json
import subprocess
import sys
from pathlib import Path

import parts

LOCK = "requirements/run.txt"
ADVISORY = {"id": "GHSA-1", "fix_versions": ["2.5"], "aliases": []}


def audit(folder: Path, answers: dict[str, object]) -> "subprocess.CompletedProcess[str]":
    """Audit one lock by a program that has an answer for each file; without an answer it fails."""
    (folder / "answers").write_text(json.dumps(answers))
    program = folder / "pip-audit"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        f"answers = json.loads(pathlib.Path({str(folder / 'answers')!r}).read_text())\n"
        "asked = pathlib.Path(sys.argv[sys.argv.index('--requirement') + 1]).name\n"
        "print(json.dumps({'dependencies': answers[asked]}))\n"
    )
    program.chmod(0o755)
    command = [sys.executable, str(parts.ROOT / "tests" / "audit.py"), str(program), LOCK]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def package(*advisories: object) -> dict[str, object]:
    return {"name": "jinja2", "version": "2.4.1", "vulns": list(advisories)}


def test_packages_without_advisories_pass(tmp_path: Path) -> None:
    done = audit(tmp_path, {"control.txt": [package(ADVISORY)], "run.txt": [package()]})
    assert (done.returncode, done.stdout.strip()) == (0, f"{LOCK}: 0 found")


def test_an_advisory_is_named_with_the_release_that_ends_it(tmp_path: Path) -> None:
    done = audit(tmp_path, {"control.txt": [package(ADVISORY)], "run.txt": [package(ADVISORY)]})
    assert done.returncode == 1
    assert "jinja2 2.4.1: GHSA-1, fixed in 2.5" in done.stdout


def test_a_service_that_knows_nothing_is_no_audit(tmp_path: Path) -> None:
    done = audit(tmp_path, {"control.txt": [package()], "run.txt": [package()]})
    assert (done.returncode, done.stdout) == (2, "")
    assert "knows nothing of jinja2==2.4.1" in done.stderr


def test_a_package_that_was_skipped_is_no_audit(tmp_path: Path) -> None:
    skipped = {"name": "jinja2", "skip_reason": "not found"}
    done = audit(tmp_path, {"control.txt": [package(ADVISORY)], "run.txt": [package(), skipped]})
    assert (done.returncode, done.stdout) == (2, "")


def test_a_service_that_does_not_answer_is_no_audit(tmp_path: Path) -> None:
    done = audit(tmp_path, {})
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing was audited" in done.stderr
