"""Read secrets from files that variables such as `DATABASE_URL_FILE` name."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from streams.core.errors import Misconfigured
from streams.settings import PREFIX, Settings

SUFFIX = "_FILE"
MAX_SECRET_FILE_BYTES = 64 * 1024
# Kafka's clients take any property, so any of them may be a secret.
_PROPERTIES = ("KAFKA_CONFIG_", "SCHEMA_REGISTRY_CONFIG_")


def secret_names() -> list[str]:
    """The variables whose value may come from a file."""
    fields = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    return ["DATABASE_URL", "SMTP_URL", *(PREFIX + name.upper() for name in fields)]


def with_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the contents of the files. Raises `Misconfigured`."""
    environment = dict(environ)
    for name in _from_files(environ):
        path = environment.pop(name + SUFFIX)
        if environment.get(name):
            raise Misconfigured(f"{name} and {name}{SUFFIX} are both set: remove one")
        environment[name] = _read(name + SUFFIX, Path(path))
    return environment


def _from_files(environ: Mapping[str, str]) -> Iterator[str]:
    names = secret_names()
    for variable, path in environ.items():
        name = variable.removesuffix(SUFFIX)
        if name != variable and path and (name in names or name.startswith(_PROPERTIES)):
            yield name


def _read(variable: str, path: Path) -> str:
    try:
        if path.is_fifo():
            # To open a pipe waits until a process writes to it.
            raise Misconfigured(f"{variable}: {path} is a pipe: name a file")
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_FILE_BYTES + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise Misconfigured(f"{variable}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misconfigured(f"{variable}: {path} is not UTF-8 text") from None
    if not text:
        raise Misconfigured(f"{variable}: {path} is empty")
    if len(content) > MAX_SECRET_FILE_BYTES:
        raise Misconfigured(f"{variable}: {path} is larger than {MAX_SECRET_FILE_BYTES // 1024} KiB")
    return text
