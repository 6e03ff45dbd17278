// Publishes one event, as schemas/README.md says: node publish.mjs SERVERS SCHEMA [TOPIC]. Needs Node 22.22 or newer.
import { compatibilityPartitioner, ProduceAcks, Producer } from '@platformatic/kafka';
import avro from 'avsc';
import { readFileSync } from 'node:fs';

const EMPTY = 0xc15d213aa4d7a795n;

/** The CRC-64-AVRO fingerprint of a schema's canonical form, which avsc does not compute. */
function fingerprint(type) {
  let sum = EMPTY;
  for (const byte of Buffer.from(JSON.stringify(type.schema()))) {
    sum ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) sum = (sum >> 1n) ^ (sum & 1n ? EMPTY : 0n);
  }
  return sum;
}

/** What happened, below "produce failed" and "connection failed". */
function reason(error) {
  const below = error.errors?.at(-1) ?? error.cause;
  return below ? reason(below) : error.message;
}

function fail(error) {
  console.error(`Kafka did not take the event: ${reason(error)}`);
  process.exit(1);
}

if (!Promise.withResolvers) {
  console.error(`publish.mjs needs Node 22.22 or newer. This is ${process.version}.`);
  process.exit(1);
}

/** That of the server's variables: a password by SCRAM over TLS, and the authority of a private certificate. */
function security() {
  const username = process.env.KAFKA_CONFIG_SASL_USERNAME;
  const password = process.env.KAFKA_CONFIG_SASL_PASSWORD;
  const authority = process.env.KAFKA_CONFIG_SSL_CA_LOCATION;
  if (!username) return {};
  const tls = authority ? { ca: readFileSync(authority) } : {};
  return { tls, sasl: { mechanism: 'SCRAM-SHA-512', username, password } };
}

const [servers, schema, topic = 'session-events'] = process.argv.slice(2);
const type = avro.Type.forSchema(JSON.parse(readFileSync(schema, 'utf8')));
const data = { sessionId: 'sess_1', packageId: 'pkg_1', learnerId: 'learner-42' };
const event = {
  id: 'evt_1', // your own: publish an event again with the id that it had
  type: 'session.launched',
  accountId: 'acc_1',
  occurredAt: Date.parse('2026-04-10T14:32:00Z'),
  data: { 'scormwebhooks.v1.SessionLaunched': data },
};
// Single-object encoding: C3 01, the schema's fingerprint, the body.
const header = Buffer.from('c3010000000000000000', 'hex');
header.writeBigUInt64LE(fingerprint(type), 2);
const value = Buffer.concat([header, type.toBuffer(event)]);
const key = Buffer.from(data.sessionId); // without a session: the package id, else the account id

let lastError = new Error('it does not answer');
const producer = new Producer({
  clientId: 'publish',
  bootstrapBrokers: servers.split(','),
  ...security(),
  acks: ProduceAcks.ALL,
  idempotent: true,
  producerId: -1n, // it has none yet; the client would say 0, which the embedded broker of `up` does not know
  producerEpoch: -1,
  partitioner: compatibilityPartitioner, // the default one is not that of Java
  retries: true, // until the deadline
  retryDelay: (client, operation, attempt, retries, error) => ((lastError = error), 250),
});
const deadline = setTimeout(() => fail(lastError), process.env.TIMEOUT_MS ?? 30_000);
try {
  const { offsets } = await producer.send({ messages: [{ topic, key, value }] });
  console.log(offsets[0].topic, offsets[0].partition, Number(offsets[0].offset));
  clearTimeout(deadline);
  await producer.close();
} catch (error) {
  fail(error);
}
