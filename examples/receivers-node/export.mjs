// Export: one JSON file for each event, in DATA_DIR/events. Settings: WEBHOOK_SECRET, PORT, DATA_DIR.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { serve, setting } from './receiver.mjs';

const folder = join(setting('DATA_DIR', Boolean, 'a folder, to keep data in'), 'events');
mkdirSync(folder, { recursive: true });

await serve((event) => {
  // Written whole or not at all; a second time it is the same file.
  const path = join(folder, `${encodeURIComponent(event.id)}.json`);
  writeFileSync(`${path}.unfinished`, JSON.stringify(event, null, 2));
  renameSync(`${path}.unfinished`, path);
});
