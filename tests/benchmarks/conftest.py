"""Puts `bench` on the import path."""

import sys
from pathlib import Path

# At the end: in CI the packages of the wheel come first.
sys.path.append(str(Path(__file__).parents[2]))
