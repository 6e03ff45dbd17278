"""Run Apache Kafka with two TLS listeners: one asks for a password, one for a client certificate."""

from collections.abc import Sequence
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from real.kafka import Kafka
from real.process import free_ports

USER = "webhooks"
PASSWORD = "correct-horse"

# These replace the settings of the plain broker. Its plain listener stays for the broker itself and for health checks.
LISTENERS = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},\
PASSWORD://127.0.0.1:{password},CERTIFICATE://127.0.0.1:{certificate}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},\
PASSWORD://127.0.0.1:{password},CERTIFICATE://127.0.0.1:{certificate}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PASSWORD:SASL_SSL,CERTIFICATE:SSL
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.certificate.ssl.client.auth=required
listener.name.password.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.password.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{user}="{secret}";
listener.name.password.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.password.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
"""


# Who comes without a password or certificate is the broker itself, or the test: it may do everything.
AUTHORIZER = """\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
listener.name.password.plain.sasl.jaas.config={login}.plain.PlainLoginModule required {users};
"""


class SecuredKafka(Kafka):
    """A broker with two TLS listeners. `password_listener` and `certificate_listener` are `host:port`."""

    _format_options = tuple(
        option
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for option in ("--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]")
    )

    def _properties(self, port: int, controller: int) -> str:
        password, certificate = free_ports(2)
        self.password_listener = f"127.0.0.1:{password}"
        self.certificate_listener = f"127.0.0.1:{certificate}"
        authority = trustme.CA()
        self.authority = self._folder / "ca.pem"
        self.client = self._folder / "client.pem"
        authority.cert_pem.write_to_path(self.authority)
        _write(authority.issue_cert("127.0.0.1"), self._folder / "server.pem")
        _write(authority.issue_cert("client.example"), self.client)
        return super()._properties(port, controller) + LISTENERS.format(
            port=port,
            controller=controller,
            password=password,
            certificate=certificate,
            folder=self._folder,
            login="org.apache.kafka.common.security",
            user=USER,
            secret=PASSWORD,
        )


def by_password(kafka: SecuredKafka, mechanism: str) -> dict[str, str]:
    """The variables of a client with a password."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.password_listener,
        "KAFKA_CONFIG_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_CONFIG_SASL_MECHANISM": mechanism,
        "KAFKA_CONFIG_SASL_USERNAME": USER,
        "KAFKA_CONFIG_SASL_PASSWORD": PASSWORD,
        "KAFKA_CONFIG_SSL_CA_LOCATION": str(kafka.authority),
    }


class GuardedKafka(SecuredKafka):
    """A broker that permits each user what rules allow. Every user has the same password."""

    def __init__(self, users: Sequence[str]) -> None:
        self._users = users
        super().__init__()

    def _properties(self, port: int, controller: int) -> str:
        users = " ".join(f'user_{user}="{PASSWORD}"' for user in self._users)
        known = [line for line in super()._properties(port, controller).splitlines() if "plain.sasl.jaas" not in line]
        return "\n".join([*known, AUTHORIZER.format(login="org.apache.kafka.common.security", users=users)])


def _write(certificate: trustme.LeafCert, path: Path) -> None:
    """Write key and chain to one file. Kafka reads only PKCS #8 keys."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + b"".join(chain.bytes() for chain in certificate.cert_chain_pems))
