// Verify a request, store its event, respond; then work, from the inbox. A crash may repeat work, but loses none.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { openInbox } from './inbox.mjs';

const TOLERANCE_SECONDS = 300;
const LARGEST_BODY = 1024 * 1024;

/** A setting from the environment. Without a valid value the program ends with one line. */
export function setting(name, isValid, meaning) {
  const value = process.env[name] ?? '';
  if (isValid(value)) return value;
  console.error(`error: ${name} must be ${meaning} (${name in process.env ? 'not valid' : 'not set'})`);
  process.exit(1);
}

/** Whether the request carries a valid signature of Standard Webhooks, made within the last five minutes. */
export function isGenuine(headers, body, secret) {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures = '' } = headers;
  if (!id || !/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - timestamp) > TOLERANCE_SECONDS) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest();
  return signatures.split(' ').some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ''), 'base64');
    return signature.startsWith('v1,') && given.length === expected.length && timingSafeEqual(given, expected);
  });
}

/** Work on the next event; false when none is due. Work that fails is due again later, in an hour at most. */
async function workOnNext(inbox, work) {
  const next = inbox.next(Date.now() / 1000);
  if (!next) return false;
  try {
    await work(JSON.parse(next.body));
    inbox.done(next.id);
  } catch (error) {
    console.error(`${next.id}: the work failed (${error.name})`);
    inbox.failed(next.id, String(error), Date.now() / 1000 + Math.min(2 ** next.failures, 3600));
  }
  return true;
}

async function receive(request, inbox, secret) {
  const chunks = [];
  let length = 0;
  if (request.headers['content-length'] > LARGEST_BODY) return 413;
  for await (const chunk of request) {
    if ((length += chunk.length) > LARGEST_BODY) return 413;
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (request.method !== 'POST' || !isGenuine(request.headers, body, secret)) return 401;
  const event = JSON.parse(body);
  if (!event.test) inbox.store(event.id, body.toString());
  return 204;
}

/** Receive until a signal. `work` gets each event once it is stored, one after the other; it may be async. */
export async function serve(work) {
  const secret = setting('WEBHOOK_SECRET', (text) => /^(whsec_)?[A-Za-z0-9+/]{4,}=*$/.test(text), 'the signing secret');
  const port = setting('PORT', (text) => /^\d+$/.test(text), 'the port to listen on');
  const inbox = await openInbox(setting('DATA_DIR', Boolean, 'a folder, to keep data in'));
  let stopping = false;
  const server = createServer(async (request, response) => {
    const status = await receive(request, inbox, secret).catch((error) => (console.error(error.message), 500));
    response.writeHead(status, status === 413 ? { connection: 'close' } : {}).end();
  });
  server.on('error', (error) => (console.error(`error: PORT: ${error.message}`), process.exit(1)));
  server.listen(Number(port), '127.0.0.1', () => console.log(`listening on ${port}; the inbox is ${inbox.kind}`));
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => (stopping = true));
  while (!stopping) if (!(await workOnNext(inbox, work))) await sleep(100);
  process.exit(0);
}
