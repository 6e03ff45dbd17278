"""A wheel of a part of this repository, installed in an environment of its own."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Installed:
    """An environment with nothing but the wheel and what it requires."""

    wheel: Path
    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def packages(self) -> Path:
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def run(self, code: str, *arguments: str) -> str:
        """What a program prints. It sees neither this checkout nor this environment."""
        command = [self.python, "-I", "-c", code, *arguments]
        output = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert output.returncode == 0, output.stderr
        return output.stdout.strip()


def build_and_install(project: str, folder: Path) -> Installed:
    """Build the wheel of a folder of the repository, and install it with what it requires."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(build, cwd=ROOT / project, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    install([str(wheel), "--constraint", str(ROOT / "requirements" / "run.txt")], venv)
    return Installed(wheel, venv)


def install(what: list[str], venv: Path) -> None:
    """Install with uv: from its cache, where it has all of it."""
    uv = next(uv for uv in (str(ROOT / ".uv" / "bin" / "uv"), shutil.which("uv")) if uv and works(uv))
    command = [uv, "pip", "install", "--quiet", "--python", str(venv), *what]
    if subprocess.run([*command, "--offline"], capture_output=True, check=False).returncode:
        subprocess.run(command, check=True)


def works(uv: str) -> bool:
    # A shim of pyenv may be on the path without a program behind it.
    return (
        os.access(uv, os.X_OK) and subprocess.run([uv, "--version"], capture_output=True, check=False).returncode == 0
    )
