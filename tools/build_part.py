"""Build a distribution from some of this repository's modules and all that they import, under a package of its own."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OURS = ("streams", "schemas", "api")


@dataclass(frozen=True)
class Part:
    """What a distribution has.

    `sources` is the folder of the package's own modules, if it has one. `public` are modules of the server that become
    the package's own, with their new names. What these import is copied under names that begin with an underscore.
    `texts` are replaced in every file.
    """

    package: str
    sources: str = ""
    public: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    has_schemas: bool = False

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "Part":
        """The part that a pyproject.toml describes."""
        return cls(**{name: value for name, value in config.items() if name in cls.__dataclass_fields__})


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Writes the package into a temporary folder, and takes that into the wheel or the sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        part = Part.of_config(self.config)
        self._folder = TemporaryDirectory()
        package, project = Path(self._folder.name, "package"), Path(self._folder.name, "pyproject.toml")
        write_package(part, Path(self.root).parent, package)
        build_data["force_include"][str(package)] = part.package
        if self.target_name == "sdist":
            # Its files are written already, and nothing of this repository is beside it.
            own = Path(self.root, "pyproject.toml")
            project.write_text(project_of_written_files(part, own.read_text(), self.metadata.version))
            build_data["force_include"].pop(str(own), None)
            build_data["force_include"][str(project)] = "pyproject.toml"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._folder.cleanup()


def project_of_written_files(part: Part, text: str, version: str) -> str:
    """The pyproject.toml of an sdist: the project's, which builds the package as it is."""
    own, _, _ = text.partition("[tool.hatch.version]")
    named = own.replace('dynamic = ["version"]', f'version = "{version}"')
    return f'{named}[tool.hatch.build.targets.wheel]\npackages = ["{part.package}"]\n'


def write_package(part: Part, root: Path, target: Path) -> None:
    """Write the package's files, with changed imports. Raises `ValueError` for an import that was not changed."""
    for module, path in needed(part, root).items():
        text = rewritten(part, path.read_text(encoding="utf-8"))
        if left := [name for name in imports(text) if name.split(".")[0] in OURS]:
            raise ValueError(f"{path} imports {left[0]} in a way that the build of {part.package} does not know")
        is_package = path.name == "__init__.py" or part.public.get(module) == part.package
        put(target, new_name(part, module), is_package, text)
    if part.has_schemas:
        for schema in (root / "schemas").rglob("*.avsc"):
            copy = target / "_schemas" / schema.relative_to(root / "schemas")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(schema.read_bytes())
    (target / "py.typed").touch()


def needed(part: Part, root: Path) -> dict[str, Path]:
    """The package's own and public modules and all of ours that they import, with their packages, by name."""
    found: dict[str, Path] = {}
    sources = root / part.sources
    own = (path.relative_to(sources.parent) for path in sources.rglob("*.py")) if part.sources else ()
    todo = [*part.public, *(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in own)]
    while todo:
        module = todo.pop()
        path = path_of(part, root, module)
        if path is not None and module not in found:
            found[module] = path
            todo += [module.rpartition(".")[0], *imports(path.read_text(encoding="utf-8"))]
    return found


def path_of(part: Part, root: Path, module: str) -> Path | None:
    """The file of a module of ours. None for any other name."""
    first, *rest = module.split(".")
    if first not in OURS and (first != part.package or not part.sources):
        return None
    base = (root / part.sources if first == part.package else root / first).joinpath(*rest)
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imports(text: str) -> Iterator[str]:
    """The names that a file imports, those within functions too. Some name values and not modules."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rewritten(part: Part, text: str) -> str:
    """A file's text with the new names of modules."""
    for old, new in {**part.public, **part.texts}.items():
        text = text.replace(old, new)
    text = re.sub(r"^import schemas$", f"from {part.package} import _schemas as schemas", text, flags=re.MULTILINE)
    return re.sub(r"^( *from )(?=(?:streams|schemas)\b)", rf"\g<1>{part.package}._", text, flags=re.MULTILINE)


def new_name(part: Part, module: str) -> str:
    is_own = module.split(".")[0] == part.package
    return module if is_own else part.public.get(module, f"{part.package}._{module}")


def put(target: Path, module: str, is_package: bool, text: str) -> None:
    base = target.joinpath(*module.split(".")[1:])
    path = base / "__init__.py" if is_package else base.with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
