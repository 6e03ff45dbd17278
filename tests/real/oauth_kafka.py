"""Run Apache Kafka with a listener that asks for a token. Kafka's own validator checks it."""

from real.kafka import Kafka
from real.process import free_ports
from real.token_endpoint import AUDIENCE, TokenEndpoint

LISTENERS = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},TOKEN://127.0.0.1:{token}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},TOKEN://127.0.0.1:{token}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TOKEN:SASL_PLAINTEXT
listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.token.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.token.oauthbearer.sasl.server.callback.handler.class=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.token.oauthbearer.sasl.oauthbearer.jwks.endpoint.url={keys}
listener.name.token.oauthbearer.sasl.oauthbearer.expected.audience={audience}
listener.name.token.oauthbearer.sasl.oauthbearer.expected.issuer={issuer}
listener.name.token.oauthbearer.sasl.oauthbearer.clock.skew.seconds=0
listener.name.token.oauthbearer.connections.max.reauth.ms=3600000
"""


class OAuthKafka(Kafka):
    """`token_listener` is `host:port`. A connection there ends with its token."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint
        # Without the keys the broker does not start.
        self.java_options = (
            *self.java_options,
            f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={endpoint.keys_url}",
        )
        super().__init__()

    def _properties(self, port: int, controller: int) -> str:
        [token] = free_ports(1)
        self.token_listener = f"127.0.0.1:{token}"
        return super()._properties(port, controller) + LISTENERS.format(
            port=port,
            controller=controller,
            token=token,
            keys=self._endpoint.keys_url,
            audience=AUDIENCE,
            issuer=self._endpoint.url,
        )
