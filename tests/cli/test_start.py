"""What a command has to import before it does anything."""

import subprocess
import sys

LIST_MODULES = """
import importlib, pkgutil, sys
import api.models, streams.cli
for package in (api.models, streams.cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(*sys.modules)
"""


def test_a_command_does_not_import_the_web_framework() -> None:
    done = subprocess.run([sys.executable, "-c", LIST_MODULES], capture_output=True, text=True, check=True)
    assert {"fastapi", "starlette", "jinja2", "faust"}.isdisjoint(done.stdout.split())
