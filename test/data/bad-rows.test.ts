import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadDataset } from 'lorikeet/data';
import { skippedMessage } from '#dist/data/bad-rows.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { letters } from '../helpers/letters.js';

const path = join(temporaryFolder(), 'bad.jsonl');
writeFileSync(path, '{"text":"one"}\noops\n{"txt":"two"}\n{"text":""}\n[1]\n{"text":"six"}\n');

test('bad rows are errors, or left out and counted', async (t) => {
  await t.throwsAsync(loadDataset({ path }, letters, { sequence: 8 }), { code: 'format', message: /bad\.jsonl:2: not a JSON object/ });
  const set = await loadDataset({ path }, letters, { sequence: 8, badRows: 'skip' });
  t.is(set.length, 2);
  t.is(set.skipped.count, 4);
  t.deepEqual(
    set.skipped.first.map((message) => message.slice(path.length)),
    [
      ':2: not a JSON object; Unexpected token \'o\', "oops" is not valid JSON',
      ':3: no field "text"; got fields "txt"; did you mean "txt"?',
      ':4: nothing to learn; got 1 token, expected at least 2',
    ],
  );
  t.regex(skippedMessage('bad.jsonl', set.skipped), /^data: left out 4 bad rows of "bad\.jsonl": .*:2: not a JSON object; .* and 1 more$/);
});

test('rows with nothing to learn have a policy of their own', async (t) => {
  const rows = ['a', ''];
  t.is((await loadDataset({ rows }, letters, { sequence: 8, badRows: 'skip' })).length, 1);
  t.is((await loadDataset({ rows }, letters, { sequence: 8, badRows: 'skip', emptyRows: 'keep' })).length, 2);
  await t.throwsAsync(loadDataset({ rows: [...rows, 5 as never] }, letters, { sequence: 8, emptyRows: 'skip' }), {
    message: /row 3: a row must be an object; got a number/,
  });
});

test('nothing is left', async (t) => {
  await t.throwsAsync(loadDataset({ rows: [{ a: 1 }, { a: 2 }] }, letters, { sequence: 8, badRows: 'skip' }), {
    code: 'config',
    message: /"rows" has no rows; 2 bad rows were left out: row 1: no field "text"/,
  });
});
