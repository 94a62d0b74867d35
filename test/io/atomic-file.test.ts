import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { IoError } from 'lorikeet';
import { writeFileAtomically } from 'lorikeet/io';
import { makeFolder } from '#dist/io/atomic-file.js';
import { asIoError } from '#dist/io/io-error.js';
import { temporaryFolder } from '../helpers/command-line.js';

const root = temporaryFolder();

test('a write that fails leaves the file as it was, and nothing beside it', async (t) => {
  const path = join(root, 'a', 'b', 'file');
  await writeFileAtomically(path, 'first');
  await t.throwsAsync(
    writeFileAtomically(
      path,
      (function* () {
        yield Buffer.from('second');
        throw new Error('no more');
      })(),
    ),
    { message: 'no more' },
  );
  t.is(readFileSync(path, 'utf8'), 'first');
  t.deepEqual(readdirSync(join(root, 'a', 'b')), ['file']);
});

test('errors of the system come out as IoError, with the path and what to do', async (t) => {
  const file = join(root, 'plain');
  writeFileSync(file, 'text');
  const error = await t.throwsAsync(writeFileAtomically(join(file, 'below', 'x'), 'text'), { instanceOf: IoError });
  t.regex(error?.message ?? '', /^write: cannot write ".*plain\/below\/x"; got ENOTDIR from mkdir: a part of the path is a file$/);
  t.like(error?.cause, { code: 'ENOTDIR' });
  mkdirSync(join(root, 'folder'));
  const other = await t.throwsAsync(writeFileAtomically(join(root, 'folder'), 'text'), { instanceOf: IoError });
  t.regex(other?.message ?? '', /got EISDIR from rename$/);
  t.is(asIoError('text', 'x'), 'text');
  const plain = new TypeError('wrong');
  t.is(asIoError(plain, 'x'), plain);
});

test('folders are made with those above them, again and again', async (t) => {
  const path = join(root, 'x', 'y', 'z');
  await Promise.all([makeFolder(path), makeFolder(path)]);
  await makeFolder(path);
  t.true(existsSync(path));
  await t.throwsAsync(makeFolder('/proc/none/below'), { code: 'ENOENT' });
});
