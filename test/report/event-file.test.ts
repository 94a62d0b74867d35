import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { EventFile, eventFiles, scalarRecord } from '#dist/report/event-file.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { crc32c, readEvents } from '../helpers/event-records.js';
import { goldenFolder, readJson } from '../helpers/folders.js';

interface Golden {
  readonly now: number;
  readonly rows: readonly { readonly step: number; readonly values: Record<string, number> }[];
  readonly head: string;
  readonly restart: string;
  readonly scalars: readonly string[];
}

const golden = readJson<Golden>(goldenFolder, 'report', 'events.json');
const bytesOf = (...parts: readonly string[]): Buffer => Buffer.concat(parts.map((part) => Buffer.from(part, 'base64')));

test('CRC-32C of the check string of its definition', (t) => {
  t.is(crc32c(Buffer.from('123456789')), 0xe3069283);
  t.is(crc32c(Buffer.alloc(32)), 0x8a9136aa);
});

test('records have the bytes of the tensorboard package', (t) => {
  for (const [index, { step, values }] of golden.rows.entries())
    t.deepEqual(scalarRecord(golden.now, step, values), bytesOf(golden.scalars[index] ?? ''));
});

test('a new file, and that of a resumed run, byte for byte', (t) => {
  const [first, second] = golden.rows;
  const fresh = EventFile.create(temporaryFolder(), 1, golden.now);
  fresh.add(second?.step ?? 0, second?.values ?? {}, golden.now);
  t.deepEqual(readFileSync(fresh.path), bytesOf(golden.head, golden.scalars[1] ?? ''));
  const resumed = EventFile.create(temporaryFolder(), 300, golden.now);
  resumed.add(first?.step ?? 0, first?.values ?? {}, golden.now);
  t.deepEqual(readFileSync(resumed.path), bytesOf(golden.head, golden.restart, golden.scalars[0] ?? ''));
});

test('files of one folder sort in the order in which they were made', (t) => {
  const folder = temporaryFolder();
  const made = [1, 5, 9].map((step) => EventFile.create(folder, step, 1e9).path);
  t.deepEqual(
    eventFiles(folder).map((name) => join(folder, name)),
    made,
  );
  t.deepEqual(
    made.map((path) => readEvents(path).find(({ start }) => start)?.step),
    [undefined, 5, 9],
  );
});
