"""A release without a key: Sigstore certifies who signs, and Python's cryptography verifies it."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import (
    Certificate,
    ObjectIdentifier,
    RFC822Name,
    SubjectAlternativeName,
    load_der_x509_certificate,
)

import parts
from conftest import left_out
from publication.published import (
    CHART,
    IMAGE,
    NAMESPACE,
    VERSION,
    ImageRegistry,
    Released,
    bundles,
    make,
    release_words,
    verified,
)
from publication.sigstore import IDENTITY, IdentityProvider, own_network, running_sigstore
from real.process import Process, free_ports
from release.oci import digest_of, platforms
from release.registry import Registry
from release.signing import KEYLESS, Signer
from release.source import Refused

pytestmark = [pytest.mark.release, pytest.mark.slow]

ISSUER = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")  # Fulcio's own: who vouches for the identity


@dataclass(frozen=True)
class Keyless:
    """What was signed without a key: a file, and a registry."""

    folder: Path
    registry: ImageRegistry
    issuer: str
    authority: Certificate

    def key_of(self, bundle: dict[str, Any]) -> EllipticCurvePublicKey:
        """The key of a signature, once its certificate is right."""
        raw = bundle["verificationMaterial"]["certificate"]["rawBytes"]
        certificate = load_der_x509_certificate(base64.b64decode(raw))
        certificate.verify_directly_issued_by(self.authority)
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        assert names.get_values_for_type(RFC822Name) == [IDENTITY]
        issuer = certificate.extensions.get_extension_for_oid(ISSUER).value
        assert issuer.value == self.issuer.encode()  # type: ignore[attr-defined]
        key = certificate.public_key()
        assert isinstance(key, EllipticCurvePublicKey)
        return key


@pytest.fixture(scope="module")
def keyless(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyless]:
    """The release once more, signed and pushed by the identity of a workflow, in a network of its own."""
    folder = tmp_path_factory.mktemp("keyless")
    program = parts.image_registry() or left_out("registry of images")
    sums = folder / "SHA256SUMS"
    sums.write_bytes((released.out / sums.name).read_bytes())
    with own_network(), pytest.MonkeyPatch.context() as patch:
        provider = IdentityProvider()
        [port] = free_ports(1)
        registry = ImageRegistry(port, folder / "data")
        serving = Process(registry.command(program), log=folder / "registry.log")
        try:
            serving.wait_until(registry.responds)
            with running_sigstore(folder, provider) as authority:
                patch.setenv("PATH", released.env["PATH"])
                patch.setenv("SIGSTORE_ID_TOKEN", provider.token())
                signer = Signer(KEYLESS, sigstore=str(folder), is_plain_http=True)
                signer.check()
                signer.sign_file(sums)
                Registry(f"{registry.name}/{NAMESPACE}", is_plain_http=True).push(released.out, VERSION, signer)
                yield Keyless(folder, registry, provider.url, authority)
        finally:
            serving.end(SIGTERM)
            provider.close()


def test_the_sums_are_signed_by_an_identity(keyless: Keyless) -> None:
    bundle = json.loads((keyless.folder / "SHA256SUMS.sigstore.json").read_text())
    signature = base64.b64decode(bundle["messageSignature"]["signature"])
    sums = (keyless.folder / "SHA256SUMS").read_bytes()
    keyless.key_of(bundle).verify(signature, sums, ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        keyless.key_of(bundle).verify(signature, sums + b"\n", ECDSA(SHA256()))


def test_image_and_chart_are_signed_by_an_identity(keyless: Keyless, released: Released) -> None:
    image, chart = digest_of(released.out / "image"), digest_of(released.out / "chart")
    expected = [(IMAGE, image, 2), (CHART, chart, 1)]
    expected += [(IMAGE, digest, 2) for digest in platforms(released.out / "image").values()]
    for repository, digest, count in expected:
        found = list(bundles(keyless.registry, repository, digest))
        assert len(found) == count
        for bundle in found:
            statement = json.loads(verified(bundle["dsseEnvelope"], keyless.key_of(bundle)))
            assert f"sha256:{statement['subject'][0]['digest']['sha256']}" == digest
    assert keyless.registry.tags(IMAGE) == keyless.registry.tags(CHART) == [VERSION]


def test_without_an_identity_nothing_is_built(released: Released, image_registry: ImageRegistry) -> None:
    env = {name: value for name, value in released.env.items() if not name.startswith(("ACTIONS_", "SIGSTORE_"))}
    words = [word for word in release_words(released, image_registry) if not word.startswith("KEY=")]
    done = make(released.checkout, env, "release", *words, "KEY=keyless")
    assert done.returncode == 2
    assert "KEY: keyless needs an identity; give the job of a workflow `id-token: write`" in done.stderr


def test_another_sigstore_needs_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "a-token")
    with pytest.raises(Refused, match=r"SIGSTORE: there is no file .*signing_config\.json"):
        Signer(KEYLESS, sigstore=str(tmp_path)).check()
