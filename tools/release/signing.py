"""Sign with cosign: with a key and no transparency log, or keyless with the identity of a workflow."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from release.source import Refused

KEYLESS = "keyless"
_WITH_KEY = ("--tlog-upload=false", "--use-signing-config=false")
_SIGSTORE = {"signing-config": "signing_config.json", "trusted-root": "trusted_root.json"}
# One of these variables has what proves an identity; without both, cosign would open a browser.
_IDENTITIES = ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SIGSTORE_ID_TOKEN")
_PLAIN_HTTP = ("--allow-insecure-registry", "--allow-http-registry")


class Signer:
    """Signs with `key`, a file or what else cosign takes, such as `env://NAME`; its password is in COSIGN_PASSWORD.

    With the key `keyless`, Sigstore certifies an identity for ten minutes, and its public log has each signature. A
    folder `sigstore` with `signing_config.json` and `trusted_root.json` names another Sigstore than the public one.
    `is_plain_http` is for a registry on this machine.
    """

    def __init__(self, key: str, *, sigstore: str = "", is_plain_http: bool = False) -> None:
        self._key = key
        self._is_keyless = key == KEYLESS
        self._files = {option: Path(sigstore, file) for option, file in _SIGSTORE.items()} if sigstore else {}
        named = (f"--{option}={file}" for option, file in self._files.items())
        self._options = ("--yes", *(named if self._is_keyless else (f"--key={key}", *_WITH_KEY)))
        self._registry = _PLAIN_HTTP if is_plain_http else ()

    def check(self) -> None:
        """Raises `Refused` for a key that cannot sign, before anything is built."""
        if self._is_keyless:
            return self._check_identity()
        if "://" not in self._key and not Path(self._key).is_file():
            raise Refused(f"KEY: there is no file {self._key}; `cosign generate-key-pair` makes a key")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "any")
            file.touch()
            try:
                self.sign_file(file)
            except Refused as refused:
                raise Refused(f"KEY: {self._key} cannot sign; is COSIGN_PASSWORD its password? ({refused})") from None

    def sign_file(self, file: Path) -> None:
        """Write the signature beside a file: a `.sig` (ECDSA P-256 over SHA-256, Base64), which openssl verifies.

        Without a key it is a `.sigstore.json`, which has the certificate too.
        """
        if self._is_keyless:
            self._run("sign-blob", f"--bundle={file}.sigstore.json", str(file))
        else:
            self._run("sign-blob", "--new-bundle-format=false", f"--output-signature={file}.sig", str(file))

    def sign_artifact(self, reference: str) -> None:
        """Sign an image or a chart in a registry, by its digest."""
        self._run("sign", *self._registry, reference)

    def attest(self, reference: str, kind: str, predicate: Path) -> None:
        """Store a signed statement beside an image: `slsaprovenance1` or `cyclonedx`."""
        self._run("attest", *self._registry, f"--type={kind}", f"--predicate={predicate}", reference)

    def _check_identity(self) -> None:
        if not any(map(os.environ.get, _IDENTITIES)):
            raise Refused(
                "KEY: keyless needs an identity; give the job of a workflow `id-token: write`, or set SIGSTORE_ID_TOKEN"
            )
        for file in self._files.values():
            if not file.is_file():
                raise Refused(f"SIGSTORE: there is no file {file}")

    def _run(self, verb: str, *arguments: str) -> None:
        command: Sequence[str] = ("cosign", verb, *self._options, *arguments)
        # Without the variable it would ask at the terminal.
        env = {"COSIGN_PASSWORD": "", **os.environ}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(f"cosign {verb} failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
