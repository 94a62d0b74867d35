import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';

/** A run folder as a finished run of three steps leaves it. */
function makeRun(folder: string, name: string, rank: number, losses: readonly number[]): string {
  const path = join(folder, name);
  mkdirSync(path);
  const rows = losses.flatMap((loss, index) => [
    { step: index + 1, loss, learningRate: 1e-3, gradNorm: 1, tokens: 100, seconds: 0.5, peakBytes: 2 ** 20, residentBytes: 2 ** 22 },
    ...(index === losses.length - 1 ? [{ step: index + 1, evalLoss: loss + 0.5 }] : []),
  ]);
  writeFileSync(join(path, 'metrics.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  writeFileSync(join(path, 'recipe.yaml'), `model: ./m\nadapter: { type: lora, rank: ${rank} }\ntraining: { steps: 3 }\nout: ${path}\n`);
  return path;
}

const folder = temporaryFolder();
const [small, large] = [makeRun(folder, 'small', 4, [3, 2.5, 2]), makeRun(folder, 'large', 8, [3, 2, 1.5])];

test('compare: table, page, JSON fields', async (t) => {
  const out = join(folder, 'pages', 'compare.html');
  const result = await lorikeet(['compare', small, large, '--out', out, '--json']);
  t.is(result.code, 0, result.stderr);
  const json = lastJson(result) as { out: string; runs: Record<string, unknown>[]; differences: unknown };
  t.is(json.out, out);
  t.like(json.runs[0], { run: small, label: 'small', steps: 3, loss: 2, evalLoss: 2.5, tokens: 300, tokensPerSecond: 200, seconds: 1.5 });
  t.like(json.runs[1], { label: 'large', best: { step: 3, evalLoss: 2 } });
  t.deepEqual(json.differences, [{ key: 'adapter.rank', values: [4, 8] }]);
  const page = readFileSync(out, 'utf8');
  t.regex(page, /<b>1\.5000<\/b>/);
  t.true(page.includes('adapter.rank'));
  t.false(/https?:|\ssrc=|\shref=/.test(page));

  const text = await lorikeet(['compare', small, large, '--out', out]);
  t.regex(text.stdout, /^run +state +steps +loss +held-out/);
  t.regex(text.stdout, /large +unknown +3 +1\.5000 +2\.0000 +2\.0000 at 3/);
});

test('inspect shows the same numbers', async (t) => {
  const { run, kind } = lastJson(await lorikeet(['inspect', small, '--json'])) as { run: object; kind: string };
  t.is(kind, 'run folder');
  t.like(run, {
    steps: 3,
    loss: 2,
    evalLoss: 2.5,
    best: { step: 3, evalLoss: 2.5 },
    tokens: 300,
    tokensPerSecond: 200,
    seconds: 1.5,
    peakBytes: 2 ** 20,
  });
});

test('wrong use: what is no run folder, and a folder for the page', async (t) => {
  const nothing = await lorikeet(['compare', join(folder, 'nothing'), '--out', join(folder, 'x.html')]);
  t.is(nothing.code, 2);
  t.regex(nothing.stderr, /compare: there is nothing at ".*nothing"; expected a run folder/);
  const none = await lorikeet(['compare', temporaryFolder()]);
  t.is(none.code, 2);
  t.regex(none.stderr, /is no run folder; expected metrics\.jsonl in it/);
  t.is((await lorikeet(['compare', small, '--out', folder])).code, 2);
  t.is((await lorikeet(['compare'])).code, 2);
  t.false(existsSync(join(folder, 'x.html')));
});
