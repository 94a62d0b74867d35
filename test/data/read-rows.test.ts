import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { readRows } from 'lorikeet/data';

const folder = mkdtempSync(join(tmpdir(), 'lorikeet-data-'));
test.after.always(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

async function rowsOf(path: string, options = {}) {
  const rows: { value: Record<string, unknown>; at: string }[] = [];
  for await (const { value, where } of readRows(path, options)) rows.push({ value, at: where.slice(path.length) });
  return rows;
}

test('jsonl: byte order mark, CRLF, empty lines and a last line without an end', async (t) => {
  const path = write('a.jsonl', '\ufeff{"text":"one"}\r\n\r\n{"text":"zwölf"}\n{"text":"three"}');
  t.deepEqual(await rowsOf(path), [
    { value: { text: 'one' }, at: ':1' },
    { value: { text: 'zwölf' }, at: ':3' },
    { value: { text: 'three' }, at: ':4' },
  ]);
});

test('jsonl: a broken line is named', async (t) => {
  await t.throwsAsync(rowsOf(write('b.jsonl', '{"text":"one"}\n{"text": oops}\n')), {
    message: /b\.jsonl:2: not a JSON object/,
    code: 'format',
  });
  await t.throwsAsync(rowsOf(write('c.jsonl', '[1]\n')), { message: /c\.jsonl:1: a row must be an object; got an array/ });
  await t.throwsAsync(rowsOf(write('d.jsonl', Buffer.from([0x7b, 0x7d, 0x0a, 0xff, 0x0a]))), { message: /d\.jsonl:2: not valid UTF-8/ });
});

test('jsonl: lines longer than a read piece', async (t) => {
  const long = 'x'.repeat(1_000_000);
  const rows = await rowsOf(write('e.jsonl', `${JSON.stringify({ text: long })}\n${JSON.stringify({ text: 'short' })}\n`));
  t.deepEqual(
    rows.map(({ value }) => (value.text as string).length),
    [1_000_000, 5],
  );
});

test('csv: quotes, doubled quotes, line ends inside, empty last field', async (t) => {
  const path = write('a.csv', 'text,label\n"a, ""b""\nc",1\nplain,\n');
  t.deepEqual(await rowsOf(path), [
    { value: { text: 'a, "b"\nc', label: '1' }, at: ':2' },
    { value: { text: 'plain', label: '' }, at: ':4' },
  ]);
});

test('csv: bad records are named', async (t) => {
  await t.throwsAsync(rowsOf(write('b.csv', 'a,b\n1\n')), { message: /b\.csv:2: wrong number of columns; got 1, expected 2/ });
  await t.throwsAsync(rowsOf(write('c.csv', 'a,a\n1,2\n')), { message: /column "a" appears twice/ });
  await t.throwsAsync(rowsOf(write('d.csv', 'a,b\n"1,2\n')), { message: /d\.csv:2: a quoted field is never closed/ });
});

test('json: an array of objects', async (t) => {
  t.deepEqual(await rowsOf(write('a.json', '[{"text":"one"},{"text":"two"}]')), [
    { value: { text: 'one' }, at: ': row 1' },
    { value: { text: 'two' }, at: ': row 2' },
  ]);
  await t.throwsAsync(rowsOf(write('b.json', '{"text":"one"}')), { message: /expected an array of objects; got object/ });
});

test('txt: lines, or pieces between separators', async (t) => {
  const path = write('a.txt', 'one\n\ntwo\nthree\n\n\nfour\n');
  t.deepEqual(
    (await rowsOf(path)).map(({ value, at }) => [value.text, at]),
    [
      ['one', ':1'],
      ['two', ':3'],
      ['three', ':4'],
      ['four', ':7'],
    ],
  );
  t.deepEqual(
    (await rowsOf(path, { separator: '\n\n' })).map(({ value, at }) => [value.text, at]),
    [
      ['one', ':1'],
      ['two\nthree', ':3'],
      ['four', ':7'],
    ],
  );
  t.is((await rowsOf(path, { separator: '' })).length, 1);
});

test('a missing file, a folder, an unknown extension, a misplaced separator', (t) => {
  t.throws(() => readRows(join(folder, 'none.jsonl')), { message: /no file/, code: 'config' });
  t.throws(() => readRows(write('a.xml', '')), { message: /unknown extension; got "\.xml", expected one of \.jsonl/ });
  t.throws(() => readRows(write('f.jsonl', ''), { separator: 'x' }), { message: /"separator" is for \.txt/ });
});
