"""The commands of docs/kubernetes.md, as they are there."""

import re
from functools import cache

from chart_files import ROOT

DOCUMENT = ROOT / "docs" / "kubernetes.md"


def command(beginning: str) -> str:
    """The only command of the document that begins so."""
    [found] = {line for line in commands() if line.startswith(beginning)}
    return found


@cache
def commands() -> list[str]:
    """The lines of code blocks, and commands within the text."""
    text = DOCUMENT.read_text()
    blocks = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [*blocks, *re.findall(r"`(kubectl [^`]+)`", text)]
