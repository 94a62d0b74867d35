import { appendFileSync, copyFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type DataSource, loadDataset, openDataset, openStreamedDataset, type RowSet, type Sequence } from 'lorikeet/data';
import { temporaryFolder } from '../helpers/command-line.js';
import { letters } from '../helpers/letters.js';

const folder = temporaryFolder();

function write(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const options = { sequence: 64 };
const plainOf = (rows: readonly (Sequence | undefined)[]) =>
  rows.map((row) => row && { ids: [...row.ids], learnt: [...row.learnt], where: row.where });

async function everyRow(set: RowSet, order = [...Array(set.length).keys()]) {
  return plainOf(await set.rows(order));
}

const sources: [string, DataSource & { path: string }][] = [
  ['jsonl', { path: write('a.jsonl', '\ufeff{"text":"one"}\r\n\r\n{"text":"zwölf"}\n\n\n{"text":"three"}\n{"text":"last"}') }],
  ['txt', { path: write('a.txt', '\n\none\ntwo \n   \nthree') }],
  ['csv', { path: write('a.csv', '\ufefftext,label\n"a, ""b""\nc",1\n\nplain,\r\n"x\n\ny",2\n'), prompt: 'text', completion: ' {label}' }],
  ['tsv', { path: write('a.tsv', 'text\tlabel\n"a\tb"\t1\nplain\t2') }],
  ['parquet', { path: 'test/golden/data/rows-zstd.parquet', messages: 'messages' }],
];

for (const [name, source] of sources) {
  test(`${name}: streamed rows are those in memory, with their places, in any order`, async (t) => {
    const held = await loadDataset(source, letters, options);
    const streamed = await openStreamedDataset(source, letters, options);
    t.is(streamed.length, held.length);
    t.true(held.length > 1);
    t.deepEqual(await everyRow(streamed), await everyRow(held));
    const backwards = [...Array(held.length).keys()].reverse();
    t.deepEqual(await everyRow(streamed, [...backwards, 0]), await everyRow(held, [...backwards, 0]));
    t.deepEqual(await streamed.lengths(), await held.lengths());
    t.deepEqual(streamed.sources, held.sources);
    await streamed.close();
  });
}

test('a file is streamed where its source says so', async (t) => {
  const path = write('b.jsonl', '{"text":"one"}\noops\n');
  await t.throwsAsync(openDataset({ path }, letters, options), { message: /b\.jsonl:2: not a JSON object/ });
  const set = await openDataset({ path, streaming: true }, letters, options);
  t.is(set.length, 2);
  await t.throwsAsync(set.rows([0, 1]), { code: 'format', message: /b\.jsonl:2: not a JSON object/ });
  await set.close();
});

test('a bad row that is met late is left out, and counted once', async (t) => {
  const path = write('c.jsonl', '{"text":"one"}\noops\n{"text":""}\n');
  const set = await openStreamedDataset({ path }, letters, { ...options, badRows: 'skip' });
  for (let epoch = 0; epoch < 2; epoch++)
    t.deepEqual(
      (await set.rows([0, 1, 2])).map((row) => row?.where),
      [`${path}:1`, undefined, undefined],
    );
  t.is(set.skipped.count, 2);
  t.deepEqual([...(await set.lengths())], [4, 0, 0]);
  await set.close();
});

test('what cannot be streamed says so', async (t) => {
  const path = write('d.json', '[{"text":"one"}]');
  await t.throwsAsync(openDataset({ path, streaming: true }, letters, options), {
    code: 'config',
    message: /d\.json" cannot be streamed; expected \.jsonl, .*; write its rows as \.jsonl, or use `streaming: false`/,
  });
  const text = write('d.txt', 'a--b');
  await t.throwsAsync(openDataset({ path: text, separator: '--', streaming: true }, letters, options), {
    code: 'config',
    message: /d\.txt" cannot be streamed/,
  });
  await t.throwsAsync(openDataset({ path: write('e.jsonl', '\n'), streaming: true }, letters, options), {
    code: 'config',
    message: /has no rows/,
  });
});

test('a file that vanishes, grows, shrinks or is touched is an error that names it', async (t) => {
  const rows = '{"text":"one"}\n{"text":"two"}\n';
  const changes: [string, RegExp, (path: string) => void][] = [
    ['gone', /gone\.jsonl: the file is gone while it is streamed/, (path) => rmSync(path)],
    ['grown', /grown\.jsonl: the file was changed while it is streamed; got 31 bytes, expected 30/, (path) => appendFileSync(path, '\n')],
    ['shrunk', /shrunk\.jsonl: the file was changed while it is streamed; got 15 bytes/, (path) => writeFileSync(path, '{"text":"one"}\n')],
    ['touched', /touched\.jsonl: the file was changed while it is streamed; got another time/, (path) => utimesSync(path, 1, 1)],
  ];
  for (const [name, message, change] of changes) {
    const path = write(`${name}.jsonl`, rows);
    const set = await openStreamedDataset({ path }, letters, { ...options, badRows: 'skip' });
    t.is((await set.rows([1])).length, 1);
    change(path);
    await t.throwsAsync(set.rows([1]), { code: 'format', message });
    await set.close();
  }
});

test('indexing tells how far it is, and can be cancelled', async (t) => {
  const path = write('f.jsonl', '{"text":"one, two, three"}\n'.repeat(50_000));
  const seen: { rows: number; bytes?: number; totalBytes?: number }[] = [];
  await (await openStreamedDataset({ path }, letters, { ...options, onProgress: (progress) => seen.push(progress) })).close();
  t.true(seen.length > 3);
  t.like(seen.at(-1), { rows: 50_000, totalBytes: 50_000 * 27 });
  const controller = new AbortController();
  const opening = openStreamedDataset({ path }, letters, { ...options, signal: controller.signal, onProgress: () => controller.abort() });
  await t.throwsAsync(opening, { code: 'cancelled' });
});

test('few rows of a large file are in memory at a time', async (t) => {
  const path = join(folder, 'large.jsonl');
  const line = `${JSON.stringify({ text: 'x'.repeat(10_000) })}\n`;
  writeFileSync(path, line.repeat(1000));
  for (let copy = 0; copy < 4; copy++) appendFileSync(path, line.repeat(1000));
  const set = await openStreamedDataset({ path }, letters, { sequence: 8 });
  t.is(set.length, 5000);
  const start = process.memoryUsage();
  let most = 0;
  for (let row = 0; row < set.length; row += 50) {
    await set.rows(Array.from({ length: 8 }, (_, i) => (row * 31 + i * 613) % set.length));
    const { arrayBuffers } = process.memoryUsage();
    most = Math.max(most, arrayBuffers - start.arrayBuffers);
  }
  // The file has 50 MB; buffers of read rows are freed as they go.
  t.true(most < 16e6, `${most} bytes of buffers`);
  await set.close();
});

test('a row group is decoded again after others took its place', async (t) => {
  const path = join(folder, 'g.parquet');
  copyFileSync('test/golden/data/rows-none.parquet', path);
  const set = await openStreamedDataset({ path, field: 'label' }, letters, options);
  const where = async (...rows: number[]) => (await set.rows(rows)).map((row) => row?.where.slice(path.length));
  t.deepEqual(await where(3, 0), [': row 4', ': row 1']);
  t.deepEqual(await where(0, 3, 1), [': row 1', ': row 4', ': row 2']);
  await set.close();
});
