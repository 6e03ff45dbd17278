"""Build `scorm_webhooks_producer` from the files of `streams.producer` and `streams.testing`, and what they import."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "scorm_webhooks_producer"
OURS = ("streams", "schemas", "api")
# The modules that platforms import, with their new names. The names of all others begin with an underscore.
PUBLIC = {"streams.producer": PACKAGE, "streams.testing": f"{PACKAGE}.testing"}
# Hints to install an extra.
HINT = ("scorm-webhooks[", "scorm-webhooks-producer[")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Writes the package into a temporary folder, and takes that into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._folder = TemporaryDirectory()
        write_package(Path(self.root).parent, Path(self._folder.name))
        build_data["force_include"][self._folder.name] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._folder.cleanup()


def write_package(root: Path, target: Path) -> None:
    """Write the package's files, with changed imports. Raises `ValueError` for an import that was not changed."""
    modules = needed(root)
    for module, path in modules.items():
        text = rewritten(path.read_text(encoding="utf-8"))
        if left := [name for name in imports(text) if name.split(".")[0] in OURS]:
            raise ValueError(f"{path} imports {left[0]} in a way that the build of the producer does not know")
        put(target, new_name(module), path.name == "__init__.py" or module == "streams.producer", text)
    for schema in (root / "schemas").rglob("*.avsc"):
        copy = target / "_schemas" / schema.relative_to(root / "schemas")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(schema.read_bytes())
    (target / "py.typed").touch()


def needed(root: Path) -> dict[str, Path]:
    """The public modules and all of ours that they import, with their packages, by name."""
    found: dict[str, Path] = {}
    todo = list(PUBLIC)
    while todo:
        module = todo.pop()
        path = path_of(root, module)
        if path is not None and module not in found:
            found[module] = path
            todo += [module.rpartition(".")[0], *imports(path.read_text(encoding="utf-8"))]
    return found


def path_of(root: Path, module: str) -> Path | None:
    """The file of a module of ours. None for any other name."""
    if module.split(".")[0] not in OURS:
        return None
    base = root.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imports(text: str) -> Iterator[str]:
    """The names that a file imports, those within functions too. Some are of values and not of modules."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rewritten(text: str) -> str:
    """A file's text with the new names of modules."""
    for old, new in (*PUBLIC.items(), HINT):
        text = text.replace(old, new)
    text = re.sub(r"^import schemas$", f"from {PACKAGE} import _schemas as schemas", text, flags=re.MULTILINE)
    return re.sub(r"^( *from )(?=(?:streams|schemas)\b)", rf"\g<1>{PACKAGE}._", text, flags=re.MULTILINE)


def new_name(module: str) -> str:
    return PUBLIC.get(module) or f"{PACKAGE}._{module}"


def put(target: Path, module: str, is_package: bool, text: str) -> None:
    base = target.joinpath(*module.split(".")[1:])
    path = base / "__init__.py" if is_package else base.with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
