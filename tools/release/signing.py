"""Sign with cosign and a key file, without a transparency log."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from release.source import Refused

_KEY_ONLY = ("--yes", "--tlog-upload=false", "--use-signing-config=false")
_PLAIN_HTTP = ("--allow-insecure-registry", "--allow-http-registry")


class Signer:
    """Signs with `key`, a file or what else cosign takes, such as `env://NAME`; its password is in COSIGN_PASSWORD.

    `is_plain_http` is for a registry on this machine.
    """

    def __init__(self, key: str, *, is_plain_http: bool = False) -> None:
        self._key = key
        self._registry = _PLAIN_HTTP if is_plain_http else ()

    def check(self) -> None:
        """Raises `Refused` for a key that cannot sign, before anything is built."""
        if "://" not in self._key and not Path(self._key).is_file():
            raise Refused(f"KEY: there is no file {self._key}; `cosign generate-key-pair` makes a key")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "any")
            file.touch()
            try:
                self.sign_file(file, Path(folder, "signature"))
            except Refused as refused:
                raise Refused(f"KEY: {self._key} cannot sign; is COSIGN_PASSWORD its password? ({refused})") from None

    def sign_file(self, file: Path, signature: Path) -> None:
        """Write a detached signature (ECDSA P-256 over SHA-256, Base64), which openssl verifies."""
        plain = ("--new-bundle-format=false", f"--output-signature={signature}")
        self._run("sign-blob", *_KEY_ONLY, *plain, str(file))

    def sign_artifact(self, reference: str) -> None:
        """Sign an image or a chart in a registry, by its digest."""
        self._run("sign", *_KEY_ONLY, *self._registry, reference)

    def attest(self, reference: str, kind: str, predicate: Path) -> None:
        """Store a signed statement beside an image: `slsaprovenance1` or `cyclonedx`."""
        self._run("attest", *_KEY_ONLY, *self._registry, f"--type={kind}", f"--predicate={predicate}", reference)

    def _run(self, verb: str, *arguments: str) -> None:
        command: Sequence[str] = ("cosign", verb, f"--key={self._key}", *arguments)
        # Without the variable it would ask at the terminal.
        env = {"COSIGN_PASSWORD": "", **os.environ}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(f"cosign {verb} failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
