"""Puts `bench` on the path for its tests."""

import sys
from pathlib import Path

# At the end: where CI tests the wheel, its packages still come first.
sys.path.append(str(Path(__file__).parents[2]))
