// A receiver that keeps completed sessions: `WEBHOOK_SECRET=whsec_… DATA_DIR=. PORT=9001 node server.ts`.
import { createServer, type IncomingMessage } from 'node:http';
import { DatabaseSync } from 'node:sqlite';
import * as receiver from './scormWebhooksReceiver.ts';

const secrets = (process.env.WEBHOOK_SECRET ?? '').split(','); // during a rotation: old,new
secrets.forEach(receiver.keyOf); // a wrong secret stops the start
const database = new DatabaseSync(`${process.env.DATA_DIR}/receiver.sqlite`);
const repeats = new receiver.SqliteRepeats(database);
database.exec('CREATE TABLE IF NOT EXISTS completed (session TEXT PRIMARY KEY, status TEXT, total_time TEXT)');

/** The work is in the transaction of the event's id. Types that this receiver does not know change nothing. */
function workOn(event: receiver.WebhookEvent): void {
  if (!receiver.isKnown(event) || event.type !== 'session.completed') return;
  const { sessionId, successStatus, totalTime } = event.data;
  database.prepare('INSERT OR REPLACE INTO completed VALUES (?, ?, ?)').run(sessionId, successStatus, totalTime);
}

/** The status of the response to a request. */
function respond(headers: receiver.Headers, body: Buffer): number {
  try {
    receiver.verifyStandard(headers, body, secrets);
    const event = receiver.parse(body);
    if (!event.test) repeats.once(event.id, () => workOn(event));
    return 204;
  } catch (error) {
    if (error instanceof receiver.InvalidSignature) return 401;
    if (error instanceof receiver.InvalidEvent) return 400;
    console.error(error);
    return 500;
  }
}

/** The body; null when it is too large, and the rest is not read. */
async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let length = 0;
  if (Number(request.headers['content-length']) > receiver.MAX_BODY_BYTES) return null;
  for await (const chunk of request) {
    if ((length += chunk.length) > receiver.MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

createServer(async (request, response) => {
  const body = await readBody(request).catch(() => null);
  const status = body ? respond(request.headers, body) : 413;
  response.writeHead(status, body ? {} : { connection: 'close' }).end();
}).listen(Number(process.env.PORT), '127.0.0.1');
