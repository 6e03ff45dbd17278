/** Publishes one event, as schemas/README.md says: java -cp 'lib/*' Publish.java SERVERS SCHEMA [TOPIC] */

import java.io.File;
import java.time.Instant;
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
import org.apache.kafka.common.serialization.ByteBufferSerializer;
import org.apache.kafka.common.serialization.StringSerializer;

class Publish {
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
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", args[0], "acks", "all", "enable.idempotence", true,
            "max.block.ms", timeout, "delivery.timeout.ms", timeout, "request.timeout.ms", timeout / 3);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new ByteBufferSerializer())) {
            var place = producer.send(new ProducerRecord<>(topic, key, value)).get();
            System.out.printf("%s %d %d%n", place.topic(), place.partition(), place.offset());
        } catch (ExecutionException | KafkaException error) {
            var reason = error instanceof ExecutionException ? error.getCause() : error;
            System.err.println("Kafka did not take the event: " + reason.getMessage());
            System.exit(1);
        }
    }
}
