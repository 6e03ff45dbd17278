// Verify, parse, and ignore repeats: what every receiver of webhooks needs, without any package.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { EVENT_TYPES, type KnownEvent, type UnknownEvent } from './scormWebhooksEvents.ts';

export type WebhookEvent = KnownEvent | UnknownEvent;
/** Headers by their names, as Node gives them, or with any other letters. */
export type Headers = Record<string, string | string[] | undefined>;

export const PLATFORM_HEADER = 'X-AllureConnect-Signature';
const SECRET_PREFIX = 'whsec_';
/** Stop reading a request that is larger, and respond with 413: anybody can send to your URL. */
export const MAX_BODY_BYTES = 1024 * 1024;
/** Older requests are refused, so that a recorded one cannot be sent again. An event may be older: it was retried. */
export const TOLERANCE_SECONDS = 300;
const MAX_SIGNATURES = 10;
/** A short or empty secret, such as that of a setting that is missing, would let anybody sign. */
const MIN_KEY_BYTES = 24;
/** Events may be sent again while the platform keeps them, and a person may replay them. */
const KEEP_SECONDS = 90 * 24 * 60 * 60;

/** The request is not from your platform, or it is too old: respond with 401. */
export class InvalidSignature extends Error {}

/** A signed body is not an event: respond with 400. */
export class InvalidEvent extends Error {}

/**
 * Verify a request by Standard Webhooks. `body` is the bytes as they came. Throws `InvalidSignature`.
 *
 * `secrets` are your secret, or the old and the new one during a rotation. One right signature is enough.
 */
export function verifyStandard(
  headers: Headers,
  body: Uint8Array,
  secrets: readonly string[],
  now: number = Date.now() / 1000,
): void {
  const id = header(headers, 'webhook-id');
  const timestamp = header(headers, 'webhook-timestamp');
  if (!id || !/^\d{1,12}$/.test(timestamp))
    throw new InvalidSignature('webhook-id or webhook-timestamp is missing or not valid');
  if (Math.abs(now - Number(timestamp)) > TOLERANCE_SECONDS)
    throw new InvalidSignature("webhook-timestamp is more than five minutes away from this machine's clock");
  const given = header(headers, 'webhook-signature').split(' ').slice(0, MAX_SIGNATURES);
  const expected = secrets.map((secret) => {
    const hmac = createHmac('sha256', keyOf(secret)).update(`${id}.${timestamp}.`).update(body);
    return `v1,${hmac.digest('base64')}`;
  });
  requireMatch(given, expected, 'webhook-signature');
}

/** Verify a request by the platform's own header. It has no time: prefer `verifyStandard`. Throws `InvalidSignature`. */
export function verifyPlatform(
  headers: Headers,
  body: Uint8Array,
  secrets: readonly string[],
  name: string = PLATFORM_HEADER,
): void {
  const given = [name, `${name}-Next`].map((one) => header(headers, one).toLowerCase());
  // This scheme's key is the whole secret, as it is shown.
  const valid = secrets.filter((secret) => keyOf(secret));
  const expected = valid.map((secret) => createHmac('sha256', secret).update(body).digest('hex'));
  requireMatch(given, expected, name);
}

function requireMatch(given: readonly string[], expected: readonly string[], name: string): void {
  // Each pair is compared in constant time: the response time says nothing about the right signature.
  const isValid = given.some((one) => expected.some((other) => isEqual(Buffer.from(one), Buffer.from(other))));
  if (!isValid) throw new InvalidSignature(`${name} has no signature of this body by your secret`);
}

function isEqual(one: Buffer, other: Buffer): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}

/** A header, whatever the letters of its name; empty if it is missing. */
function header(headers: Headers, name: string): string {
  const [, value] = Object.entries(headers).find(([key]) => key.toLowerCase() === name.toLowerCase()) ?? [];
  return (Array.isArray(value) ? value[0] : value) ?? '';
}

/** The key in a signing secret. Throws RangeError: call it at the start of your program. */
export function keyOf(secret: string): Buffer {
  const text = secret.startsWith(SECRET_PREFIX) ? secret.slice(SECRET_PREFIX.length) : secret;
  const key = Buffer.from(text, 'base64');
  // Node ignores what is not Base64.
  if (key.length < MIN_KEY_BYTES || key.toString('base64') !== text)
    throw new RangeError("the secret must be the webhook's signing secret: whsec_ and Base64 of 24 bytes or more");
  return key;
}

/** Parse a verified body. Types and fields that you do not know stay as they are. Throws `InvalidEvent`. */
export function parse(body: Uint8Array): WebhookEvent {
  let event: unknown;
  try {
    event = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new InvalidEvent('the body must be JSON in UTF-8');
  }
  if (!isObject(event)) throw new InvalidEvent('the body must be a JSON object');
  for (const name of ['id', 'type', 'createdAt'])
    if (typeof event[name] !== 'string') throw new InvalidEvent(`${name} must be a text`);
  if (!isObject(event.data)) throw new InvalidEvent('data must be an object');
  return event as unknown as WebhookEvent;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether the types describe this event: then `event.type` decides about `event.data`. */
export function isKnown(event: WebhookEvent): event is KnownEvent {
  return (EVENT_TYPES as readonly string[]).includes(event.type);
}

/** Does the work of each event once, although an event may come several times. */
export interface Repeats {
  /** Do the work, unless it was done before. Whether it was done now. Work that fails may be done again. */
  once(id: string, work: () => unknown): boolean | Promise<boolean>;
}

/** Remembers ids in memory. After a restart an event may be worked on again: for tests, and for idempotent work. */
export class MemoryRepeats implements Repeats {
  readonly #works = new Map<string, Promise<unknown>>();
  readonly #maxIds: number;

  constructor(maxIds = 100_000) {
    this.#maxIds = maxIds;
  }

  async once(id: string, work: () => unknown): Promise<boolean> {
    for (let earlier = this.#works.get(id); earlier; earlier = this.#works.get(id)) {
      // A repeat waits for the first one, and has its turn only if that one fails.
      if (await earlier.then(() => true, () => false)) return false;
    }
    const working = (async () => work())();
    this.#works.set(id, working);
    try {
      await working;
    } catch (error) {
      this.#works.delete(id);
      throw error;
    }
    const [oldest] = this.#works.keys();
    if (this.#works.size > this.#maxIds && oldest !== undefined) this.#works.delete(oldest);
    return true;
  }
}

/** A database of `node:sqlite`, or of a package with the same methods. */
export interface Database {
  exec(sql: string): unknown;
  prepare(sql: string): { run(...values: (string | number)[]): { changes: number | bigint } };
}

/**
 * Remembers ids in SQLite. The id and the work are one transaction: a crash loses neither, and repeats neither.
 *
 * That holds for work in the same database. Several processes may share the file.
 */
export class SqliteRepeats implements Repeats {
  readonly #database: Database;
  readonly #keepSeconds: number;

  constructor(database: Database, keepSeconds: number = KEEP_SECONDS) {
    this.#database = database;
    this.#keepSeconds = keepSeconds;
    database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 30000;
      CREATE TABLE IF NOT EXISTS seen_events (id TEXT PRIMARY KEY, seen_at REAL NOT NULL);
      CREATE INDEX IF NOT EXISTS seen_events_by_time ON seen_events (seen_at);`);
  }

  /** `work` must not wait for anything, and must not commit: the transaction ends when it returns. */
  once(id: string, work: () => unknown): boolean {
    const now = Date.now() / 1000;
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      this.#database.prepare('DELETE FROM seen_events WHERE seen_at < ?').run(now - this.#keepSeconds);
      const insert = this.#database.prepare('INSERT INTO seen_events VALUES (?, ?) ON CONFLICT DO NOTHING');
      const isNew = Number(insert.run(id, now).changes) === 1;
      if (isNew && work() instanceof Promise) throw new TypeError('the work must not return a promise');
      this.#database.exec('COMMIT');
      return isNew;
    } catch (error) {
      this.#database.exec('ROLLBACK');
      throw error;
    }
  }
}
