// The inbox: each event once, until its work is done. In SQLite where Node has it (22.13 and newer), else in files.
import fs from 'node:fs';
import { join } from 'node:path';

const TABLE = `PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, body, done_at, error, failures DEFAULT 0, due_at DEFAULT 0);
  CREATE INDEX IF NOT EXISTS inbox_due ON inbox (due_at) WHERE done_at IS NULL;`;

export async function openInbox(folder) {
  fs.mkdirSync(folder, { recursive: true });
  const sqlite = await import('node:sqlite').catch(() => null);
  return sqlite ? new SqliteInbox(new sqlite.DatabaseSync(join(folder, 'inbox.sqlite'))) : new FolderInbox(folder);
}

class SqliteInbox {
  kind = 'inbox.sqlite';

  constructor(db) {
    db.exec(TABLE);
    this.insert = db.prepare('INSERT OR IGNORE INTO inbox (id, body) VALUES (?, ?)');
    this.select = db.prepare(`SELECT id, body, failures FROM inbox WHERE done_at IS NULL AND due_at <= ?
      ORDER BY due_at, rowid LIMIT 1`);
    this.finish = db.prepare('UPDATE inbox SET done_at = ?, error = NULL WHERE id = ?');
    this.delay = db.prepare('UPDATE inbox SET failures = failures + 1, error = ?, due_at = ? WHERE id = ?');
  }

  store(id, body) { this.insert.run(id, body); }

  next(now) { return this.select.get(now); }

  done(id) { this.finish.run(Date.now() / 1000, id); }

  failed(id, error, dueAt) { this.delay.run(error, dueAt, id); }
}

/** One file for each event: in `inbox/` until its work is done, then in `done/`. */
class FolderInbox {
  kind = 'the folder inbox/, because this Node has no node:sqlite';

  constructor(folder) {
    this.path = (place, id = '') => join(folder, place, encodeURIComponent(id));
    for (const place of ['inbox', 'done', 'unfinished']) fs.mkdirSync(this.path(place), { recursive: true });
    const age = (id) => fs.statSync(this.path('inbox', id)).mtimeMs;
    const ids = fs.readdirSync(this.path('inbox')).map(decodeURIComponent).sort((one, other) => age(one) - age(other));
    this.waiting = new Map(ids.map((id) => [id, { failures: 0, dueAt: 0 }]));
  }

  store(id, body) {
    if (this.waiting.has(id) || fs.existsSync(this.path('done', id))) return;
    fs.writeFileSync(this.path('unfinished', id), body, { flush: true });
    this.move(id, 'unfinished', 'inbox');
    this.waiting.set(id, { failures: 0, dueAt: 0 });
  }

  next(now) {
    for (const [id, { failures, dueAt }] of this.waiting) {
      if (dueAt <= now) return { id, failures, body: fs.readFileSync(this.path('inbox', id), 'utf8') };
    }
    return undefined;
  }

  done(id) {
    this.move(id, 'inbox', 'done');
    this.waiting.delete(id);
  }

  failed(id, error, dueAt) { this.waiting.set(id, { failures: this.waiting.get(id).failures + 1, dueAt }); }

  /** Durably: the folder is flushed too. */
  move(id, from, to) {
    fs.renameSync(this.path(from, id), this.path(to, id));
    const folder = fs.openSync(this.path(to), 'r');
    fs.fsyncSync(folder);
    fs.closeSync(folder);
  }
}
