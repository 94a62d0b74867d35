import { execFileSync } from 'node:child_process';
import test from 'ava';
import type { LoadOptions } from 'lorikeet';
import { allLevels, machineLevels } from './helpers/engine.js';

// The level amx-bf16 with its tile products in plain C++: training from end to end, in a process of its own because the level of a machine is
// found once. Machines below avx512-bf16 cannot run it.

interface Result {
  readonly level: string;
  readonly losses: readonly number[];
  readonly bits: string;
}

const codeFor = (loading: LoadOptions): string => `
  import { createHash } from 'node:crypto';
  import { attach, isaLevel, loadModel, train } from 'lorikeet';
  const model = await loadModel('examples/stories260k', ${JSON.stringify(loading)});
  const tuned = await attach(model, { type: 'lora', rank: 4, targets: 'all-linear', dropout: 0.2 }, { seed: 3 });
  const losses = [];
  const run = train(tuned, {
    data: { train: { path: 'examples/shakespeare/train.jsonl' } },
    training: { steps: 4, batch: 2, sequence: 40, learningRate: 3e-3, seed: 3 },
  });
  for await (const { loss } of run) losses.push(loss);
  const hash = createHash('sha256');
  for (const [name, value] of tuned.namedParameters()) hash.update(name).update(await value.data());
  console.log(JSON.stringify({ level: isaLevel(), losses, bits: hash.digest('hex') }));
`;

function trained(environment: NodeJS.ProcessEnv, loading: LoadOptions = { dtype: 'bf16' }): Result {
  const env = { ...process.env, ...environment };
  const code = codeFor(loading);
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8', timeout: 60_000, env });
  return JSON.parse(printed.trimEnd().split('\n').at(-1) ?? '') as Result;
}

const emulated = { LORIKEET_EMULATE_TILES: '1', LORIKEET_MAX_ISA: 'amx-bf16' };
const vectors = { LORIKEET_EMULATE_TILES: '', LORIKEET_MAX_ISA: 'avx512-bf16' };
const onWideMachines = machineLevels.includes('avx512-bf16') ? test : test.skip;

onWideMachines('training through tile products: their own level, the bits of any number of threads, the losses of the level below', (t) => {
  const one = trained({ ...emulated, LORIKEET_THREADS: '1' });
  t.is(one.level, 'amx-bf16');
  t.deepEqual(trained({ ...emulated, LORIKEET_THREADS: '2' }), one);
  const below = trained(vectors);
  t.is(below.level, 'avx512-bf16');
  t.not(below.bits, one.bits, 'the products are other ones');
  for (const [step, loss] of below.losses.entries()) t.true(Math.abs((one.losses[step] ?? Number.NaN) - loss) < 0.02, `step ${step}`);
});

onWideMachines('training with 8-bit integers through tile products: the bits of the level below where all else is f32', (t) => {
  const loading = { dtype: 'f32', compute: 'int8' } as const;
  const [tiles, below] = [trained({ ...emulated, LORIKEET_THREADS: '2' }, loading), trained(vectors, loading)];
  t.deepEqual(tiles, { ...below, level: 'amx-bf16' });
  t.notDeepEqual(trained(vectors, { dtype: 'f32' }).losses, below.losses);
});

test('a level that does not exist is refused by name', (t) => {
  const error = t.throws(() => trained({ LORIKEET_MAX_ISA: 'avx1024' }), { instanceOf: Error });
  const levels = process.arch === 'arm64' ? 'scalar or neon' : allLevels.join(', ').replace(/, ([^,]*)$/, ' or $1');
  t.true(error.message.includes(`LORIKEET_MAX_ISA: unknown level; got "avx1024", expected ${levels}`), error.message);
});
