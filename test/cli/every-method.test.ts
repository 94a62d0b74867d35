// What every adapter method promises on the command line: trained from a recipe in one process, it answers the same bits when another process loads what was saved.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { temporaryFolder } from '../helpers/command-line.js';
import { type Answers, cases, type Found, writeRecipes } from '../helpers/every-method.js';
import { readJson } from '../helpers/folders.js';

const program = fileURLToPath(new URL('../helpers/every-method.js', import.meta.url));
const folder = temporaryFolder();
const found: Record<'train' | 'load', Found> = { train: {}, load: {} };

test.before(async () => {
  writeRecipes(folder);
  for (const phase of ['train', 'load'] as const) {
    await promisify(execFile)(process.execPath, [program, phase, folder]);
    found[phase] = readJson<Found>(folder, `${phase}.json`);
  }
});

for (const { name } of cases) {
  test(`${name}: trained from a recipe, saved, and loaded in another process with the same bits`, (t) => {
    const trained = found.train[name];
    t.false(trained === undefined || 'error' in trained, JSON.stringify(trained));
    const { values } = trained as Answers;
    t.true(values.length > 0 && values.every(Number.isFinite));
    t.deepEqual(found.load[name], trained);
  });
}

test('each adapter answers otherwise than the others', (t) => {
  const answers = Object.values(found.train).map((each) => JSON.stringify(each));
  t.is(answers.length, cases.length);
  t.is(new Set(answers).size, cases.length);
});
