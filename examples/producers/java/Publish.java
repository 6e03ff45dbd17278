/** Publishes one event: java -cp 'lib/*' Publish.java SERVERS SCHEMA [TOPIC]. Needs a Kafka: the broker of `up` is none. */

import java.io.File;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.message.BinaryMessageEncoder;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.ByteBufferSerializer;
import org.apache.kafka.common.serialization.StringSerializer;

class Publish {
    /** How long Kafka has to say where the topic is. */
    static final int METADATA_MS = 15_000;
    static final String HINT =
        " Does the topic exist? Kafka's Java client cannot read what the embedded broker of `up` answers.";

    public static void main(String[] args) throws Exception {
        var schema = new Schema.Parser().parse(new File(args[1]));
        var launched = schema.getField("data").schema().getTypes().stream()
            .filter(type -> type.getName().equals("SessionLaunched")).findFirst().orElseThrow();
        var data = new GenericRecordBuilder(launched)
            .set("sessionId", "sess_1").set("packageId", "pkg_1").set("learnerId", "learner-42").build();
        var event = new GenericRecordBuilder(schema)
            .set("id", "evt_1") // your own: publish an event again with the id that it had
            .set("type", "session.launched").set("accountId", "acc_1")
            .set("occurredAt", Instant.parse("2026-04-10T14:32:00Z").toEpochMilli())
            .set("data", data).build();
        // Single-object encoding: C3 01, the schema's fingerprint, the body.
        var value = new BinaryMessageEncoder<GenericRecord>(GenericData.get(), schema).encode(event);
        var key = (String) data.get("sessionId"); // without a session: the package id, else the account id

        var topic = args.length > 2 ? args[2] : "session-events";
        var timeout = Integer.parseInt(System.getenv().getOrDefault("TIMEOUT_MS", "30000"));
        // A key without a partitioner of your own goes by murmur2.
        var settings = security();
        settings.putAll(Map.of(
            "bootstrap.servers", args[0], "acks", "all", "enable.idempotence", true,
            "max.block.ms", Math.min(timeout, METADATA_MS),
            "delivery.timeout.ms", timeout, "request.timeout.ms", timeout / 3));
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new ByteBufferSerializer())) {
            var place = producer.send(new ProducerRecord<>(topic, key, value)).get();
            System.out.printf("%s %d %d%n", place.topic(), place.partition(), place.offset());
        } catch (ExecutionException | KafkaException error) {
            var reason = error instanceof ExecutionException ? error.getCause() : error;
            var hint = reason instanceof TimeoutException ? HINT : "";
            System.err.println("Kafka did not take the event: " + reason.getMessage() + hint);
            System.exit(1);
        }
    }

    /** That of the server's variables: a password by SCRAM over TLS, and the authority of a private certificate. */
    static Map<String, Object> security() {
        var env = System.getenv();
        var settings = new HashMap<String, Object>();
        if (env.containsKey("KAFKA_CONFIG_SASL_USERNAME")) {
            settings.put("security.protocol", "SASL_SSL");
            settings.put("sasl.mechanism", "SCRAM-SHA-512");
            settings.put("sasl.jaas.config", String.format(
                "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"%s\" password=\"%s\";",
                escaped(env.get("KAFKA_CONFIG_SASL_USERNAME")), escaped(env.getOrDefault("KAFKA_CONFIG_SASL_PASSWORD", ""))));
        }
        if (env.containsKey("KAFKA_CONFIG_SSL_CA_LOCATION")) {
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.location", env.get("KAFKA_CONFIG_SSL_CA_LOCATION"));
        }
        return settings;
    }

    static String escaped(String text) {
        return text.replace("\\", "\\\\").replace("\"", "\\\"");
    }
}
