import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { exampleOf, loadDataset, openDataset, readRows } from 'lorikeet/data';
import { letters } from '../helpers/letters.js';

const folder = mkdtempSync(join(tmpdir(), 'lorikeet-hostile-'));
test.after.always(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

async function drain(path: string, options = {}): Promise<number> {
  let count = 0;
  for await (const _ of readRows(path, options)) count++;
  return count;
}

test('UTF-16 is told by its mark, with what to do', async (t) => {
  for (const name of ['a.jsonl', 'a.csv', 'a.txt', 'a.json']) {
    await t.throwsAsync(drain(write(name, Buffer.from('\ufeff{"text":"a"}\n', 'utf16le'))), {
      code: 'format',
      message: /UTF-16 text; expected UTF-8; convert it, for example with: iconv -f UTF-16 -t UTF-8/,
    });
  }
});

test('NUL bytes are no text, also where UTF-16 has no mark', async (t) => {
  await t.throwsAsync(drain(write('nul.txt', 'one\ntwo\0\n')), { code: 'format', message: /nul\.txt:2: a NUL byte in the text/ });
  await t.throwsAsync(drain(write('nul.csv', Buffer.from('text\none\n', 'utf16le'))), {
    code: 'format',
    message: /nul\.csv:1: a NUL byte/,
  });
  await t.throwsAsync(drain(write('nul.json', '[{"text":"\0"}]')), { code: 'format', message: /nul\.json: a NUL byte/ });
});

test('files without rows', async (t) => {
  for (const [name, content] of [
    ['empty.jsonl', ''],
    ['blank.jsonl', '\n\r\n  \n'],
    ['blank.txt', '\n\n'],
    ['header.csv', 'text,label\n'],
    ['mark.txt', '\ufeff'],
    ['none.json', '[]'],
  ] as const) {
    const path = write(name, content);
    t.is(await drain(path), 0, name);
    await t.throwsAsync(loadDataset({ path }, letters, { sequence: 8 }), { code: 'config', message: /has no rows$/ });
  }
});

test('a row over the limit is an error with line and size, read past without being held', async (t) => {
  const path = join(folder, 'long.jsonl');
  const file = openSync(path, 'w');
  writeSync(file, '{"text":"one"}\n{"text":"');
  const piece = Buffer.alloc(1 << 24, 0x78);
  for (let i = 0; i < 5; i++) writeSync(file, piece);
  writeSync(file, '"}\n{"text":"three"}\n');
  closeSync(file);
  await t.throwsAsync(drain(path), {
    code: 'format',
    message: /long\.jsonl:2: the row is too long; got 83886091 bytes, expected at most 16777216/,
  });
  t.is((await loadDataset({ path }, letters, { sequence: 8, badRows: 'skip' })).length, 2);
});

test('a key that stands twice in a row is an error', async (t) => {
  await t.throwsAsync(drain(write('twice.jsonl', '{"text":"a","label":1,"text":"b"}\n')), {
    code: 'format',
    message: /twice\.jsonl:1: the key "text" appears twice/,
  });
  // As a value, inside of another value, or inside of a string it is no second key.
  const rows = ['{"text":"text","a":{"text":1}}', '{"text":"a \\"text\\": b","b":[{"text":1},{"text":2}]}', '{"a":"text","text" : "x"}'];
  t.is(await drain(write('once.jsonl', `${rows.join('\n')}\n`)), 3);
});

test('very deep JSON is read, or is an error of its row', async (t) => {
  const deep = '['.repeat(50_000) + ']'.repeat(50_000);
  const path = write('deep.jsonl', `{"text":"a","x":${deep}}\n`);
  t.is(await drain(path), 1);
  const source = { path, messages: 'x' };
  const error = await t.throwsAsync(loadDataset(source, letters, { sequence: 8 }), { code: 'format' });
  t.regex(error?.message ?? '', /deep\.jsonl:1: message 1 must have text "role" and "content"/);
});

test('a quoted field that is never closed is an error, in time linear in the file', async (t) => {
  await t.throwsAsync(drain(write('open.csv', `a,b\n"1,2\n${'x,y\n'.repeat(200_000)}`)), {
    code: 'format',
    message: /open\.csv:2: a quoted field is never closed/,
  });
  await t.throwsAsync(drain(write('after.csv', 'a,b\n"1"x,2\n')), { message: /after\.csv:2: text after the closing quote of a field/ });
});

test('a folder with the name of a file', (t) => {
  mkdirSync(join(folder, 'dir.jsonl'));
  t.throws(() => readRows(join(folder, 'dir.jsonl')), { code: 'config', message: /is not a file/ });
});

test('files that the system refuses to read', async (t) => {
  for (const path of [`${'x'.repeat(5000)}.jsonl`, 'a\0.jsonl']) {
    t.throws(() => readRows(path), { code: 'config', message: /data: cannot read ".*"; / });
    await t.throwsAsync(openDataset({ path }, letters, { sequence: 8 }), { code: 'config', message: /data: cannot read ".*"; / });
  }
  for (const name of ['gone.jsonl', 'gone.json', 'gone.txt']) {
    const rows = readRows(write(name, '[]'), name === 'gone.txt' ? { separator: '--' } : {});
    rmSync(join(folder, name));
    await t.throwsAsync(
      async () => {
        for await (const _ of rows);
      },
      { code: 'config', message: /data: cannot read ".*gone\.\w+"; ENOENT/ },
    );
  }
});

test('values that are no text', (t) => {
  const textOf = (value: unknown) => exampleOf({})({ value: { text: value }, where: 'f:1' });
  t.like(textOf(1.5), { text: '1.5' });
  t.like(textOf(true), { text: 'true' });
  t.throws(() => textOf({ a: 1 }), {
    code: 'format',
    message: 'f:1: field "text" is not text; got an object, expected text, a number or a boolean',
  });
  t.throws(() => exampleOf({ prompt: 'a', completion: 'b' })({ value: { a: [1], b: '' }, where: 'f:1' }), {
    message: /field "a" is not text; got an array, expected text, a number or a boolean; for a conversation use `messages: a`/,
  });
});
