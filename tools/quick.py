"""Play the fast tests of what has changed since the last commit.

They are changed tests, those that import what changed, those of the same feature, and the rules of the house, which
read every module and document.
"""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAST = "not real and not e2e and not slow"
HOUSE = "tests/house/"
COMMANDS = (["cli"], ["scorm_webhooks_cli"])
TOGETHER = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")


def changed_files() -> list[str]:
    """The files that differ from the last commit, and new ones."""
    commands = (["git", "diff", "--name-only", "HEAD"], ["git", "ls-files", "--others", "--exclude-standard"])
    outputs = [subprocess.run(one, cwd=ROOT, capture_output=True, text=True, check=True).stdout for one in commands]
    return [line for output in outputs for line in output.splitlines()]


def belonging(changed: Iterable[str], tests: Iterable[tuple[str, str]]) -> list[str]:
    """The tests to play, of all tests, which are given as path and text."""
    files = [file for file in changed if file.endswith(".py")]
    names = [file.removesuffix(".py").removesuffix("/__init__") for file in files]
    modules = [name.removeprefix("tests/").removeprefix("client/").replace("/", ".") for name in names]
    features = {feature for file in files if (feature := feature_of(file))}
    return [
        path
        for path, text in tests
        if path.startswith(HOUSE)
        or path in files
        or any(imports(text, module) for module in modules)
        or any(is_of_feature(path, feature) for feature in features)
    ]


def feature_of(file: str) -> str:
    """The feature that a file belongs to, as its folder or command names it; empty for another file."""
    parts = file.split("/")
    is_feature = parts[:2] == ["streams", "features"] or (parts[0] == "api" and len(parts) > 2)
    return parts[-2] if is_feature else parts[-1].removesuffix(".py") if parts[1:2] in COMMANDS else ""


def is_of_feature(path: str, feature: str) -> bool:
    """Whether a test is in the feature's folder, or has its name: `test_webhook_pages.py` belongs to `webhooks`."""
    *folders, name = path.split("/")
    return feature in folders or name.startswith(f"test_{feature.removesuffix('s')}")


def imports(text: str, module: str) -> bool:
    """Whether a file imports a module, as `import a.b`, `from a.b import …` or `from a import b`."""
    package, _, last = module.rpartition(".")
    lines = [line for line in text.splitlines() if line.lstrip().startswith(("import ", "from "))]
    return any(
        f" {module} " in f"{line} "
        or (line.lstrip().startswith(f"from {package} import ") and last in line.replace(",", " ").split())
        for line in lines
    )


def main(arguments: Sequence[str]) -> int:
    tests = [(str(path.relative_to(ROOT)), path.read_text()) for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    chosen = belonging(changed_files(), tests)
    print(f"{len(chosen)} of {len(tests)} files of tests")
    command = [sys.executable, "-m", "pytest", "-q", "-m", FAST, *TOGETHER, *arguments, *chosen]
    # 5: each test of these files is slow or needs something real.
    return 0 if (code := subprocess.run(command, cwd=ROOT, check=False).returncode) == 5 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
