// A training whose adapter took a part out of the frozen weights goes on with the same bits.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  type AdapterConfig,
  type AttachOptions,
  attach,
  calibrationBatches,
  initialFactorsOf,
  loadModel,
  type TrainingOptions,
  train,
} from 'lorikeet';
import type { AnyInit } from '#dist/inits/init.js';
import { inits } from '#dist/inits/registry.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedRows } from '../helpers/shipped.js';

const folder = temporaryFolder();
let runs = 0;
const newRun = (): string => join(folder, String(runs++));

const data = { train: { rows: shippedRows(12) } };
const training: TrainingOptions = { batch: 2, sequence: 32, steps: 4, learningRate: 5e-3, saveEvery: 2 };

interface Run {
  readonly out: string;
  readonly resume?: boolean;
  /** The run is left after this many steps. */
  readonly leave?: number;
  readonly attached?: (folder: string) => Promise<AttachOptions>;
}

/** Trains on a fresh model; a digest of losses and weights. */
async function trained(init: unknown, usesData: boolean, { out, resume = false, leave, attached }: Run): Promise<string> {
  const model = await loadModel(shippedModel);
  try {
    const begin =
      (await attached?.(out)) ?? (usesData ? { data: await calibrationBatches(model, data.train, { batches: 4, training }) } : {});
    const config = { type: 'lora', rank: 4, targets: 'all-linear', dropout: usesData ? 0.1 : 0, init } as AdapterConfig;
    const tuned = await attach(model, config, { seed: 3, ...begin });
    let last = Number.NaN;
    for await (const { step, loss } of train(tuned, { data, training, out, resume })) {
      last = loss;
      if (step === leave) break;
    }
    const hash = createHash('sha256').update(String(last));
    for (const value of tuned.parameters()) hash.update((await value.data()) as Float32Array);
    const logits = tuned.logits([[1, 403, 407, 261]]);
    return hash.update((await logits.data()) as Float32Array).digest('hex');
  } finally {
    model.dispose();
  }
}

const from = async (folder: string): Promise<AttachOptions> => ({ initial: await initialFactorsOf(folder) });

for (const { name, usesData, changesBase, formedFromFactors, defaults } of Object.values(inits) as AnyInit[]) {
  test.serial(`${name}: resumed with the same bits, from the factors of the checkpoint and from the same start`, async (t) => {
    const straight = await trained(name, usesData, { out: newRun() });
    const out = newRun();
    await trained(name, usesData, { out, leave: 2 });
    t.is(existsSync(join(out, 'checkpoints', 'step-2', 'initial')), changesBase);
    const begins = formedFromFactors?.(defaults) ?? true;
    const onward = { out, resume: true, ...(begins ? { attached: from } : {}) };
    t.is(await trained(name, usesData, { ...onward, leave: 3 }), await trained(name, usesData, { out: newRun(), leave: 3 }));
    t.is(await trained(name, usesData, { out, resume: true }), straight);
  });
}

test.serial('a checkpoint of another start is refused', async (t) => {
  const init = { type: 'pissa', niter: 0 };
  const out = newRun();
  await trained(init, false, { out, leave: 2 });
  await t.throwsAsync(trained(init, false, { out, resume: true, attached: async () => ({ seed: 4 }) }), {
    code: 'config',
    message: /its adapter began with another part of them; attach it with initial: ".*step-2\/initial"/,
  });
  await t.notThrowsAsync(trained(init, false, { out, resume: true, attached: async (folder) => ({ seed: 4, ...(await from(folder)) }) }));
});

test.serial('where factors do not decide what is left, the refusal asks for the same options and seed', async (t) => {
  const init = { type: 'pissa', niter: 0, quantize: 'nf4' };
  const out = newRun();
  await trained(init, false, { out, leave: 2 });
  await t.throwsAsync(trained(init, false, { out, resume: true, attached: async () => ({ seed: 4 }) }), {
    code: 'config',
    message: /its adapter began with another part of them; attach it with the same options and seed$/,
  });
});

test.serial('before the first checkpoint there is nothing to begin from', async (t) => {
  t.is(await initialFactorsOf(newRun()), undefined);
});
