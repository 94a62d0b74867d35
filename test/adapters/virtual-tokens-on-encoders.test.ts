// Virtual tokens in front of the rows of encoders.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, attach, loadAdapter } from '#dist/adapters/index.js';
import type { EncoderNetwork, EncoderTask } from '#dist/models/encoder.js';
import { tokenRoom } from '#dist/nn/virtual-tokens.js';
import { square } from '#dist/ops/elementwise.js';
import { sum } from '#dist/ops/reduce.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { sameBits, temporaryFolder } from '../helpers/adapters.js';
import { asModel, goldenEncoder, openEncoder, outputsOf, type RecordedRow, rowsOf, textBatch } from '../helpers/encoders.js';
import { readJson } from '../helpers/folders.js';
import { near } from '../helpers/numbers.js';
import { perturb } from '../helpers/perturb.js';

const folder = 'test/golden/prompts-on-encoders';
const tolerance = 1e-4;
const kinds: AdapterConfig[] = [
  { type: 'prefix', virtualTokens: 3 },
  { type: 'prompt', virtualTokens: 4 },
];
const tasks: readonly (readonly [string, EncoderTask])[] = [
  ['bert-classification', 'classification'],
  ['bert-token-classification', 'token-classification'],
  ['bert-masked-lm', 'masked-lm'],
  ['bert-base', 'embedding'],
];

for (const name of readdirSync(folder)) {
  test.serial(`${name}: the file of PEFT gives its outputs, and is written back with the same tensors`, async (t) => {
    const { base, rows } = readJson<{ base: string; rows: RecordedRow[] }>(join(folder, name), 'reference.json');
    const { network } = await openEncoder(goldenEncoder(base), name.startsWith('token') ? 'token-classification' : 'classification');
    const model = asModel(network, base);
    const tuned = await loadAdapter(model, join(folder, name));
    const got = await scope(() => outputsOf(network, rows));
    for (const [b, { output }] of rows.entries()) near(t, got[b] ?? [], output.flat(), tolerance, `row ${b}`);
    const written = join(temporaryFolder(), 'adapter');
    await tuned.save(written);
    const bytes = (path: string): Buffer => readFileSync(join(path, 'adapter_model.safetensors'));
    t.deepEqual(bytes(written), bytes(join(folder, name)));
    tuned.dispose();
    model.dispose();
  });
}

const run = (network: EncoderNetwork, rows: readonly (readonly number[])[], adapters: readonly (readonly string[])[]): Float32Array[] =>
  scope(() => {
    const { input, context } = textBatch(rows);
    const output = noGrad(() => network.forward(input, { ...context, rows: adapters }));
    const values = output.dataSync() as Float32Array;
    const size = values.length / rows.length;
    return rows.map((row, b) => {
      const whole = values.slice(b * size, (b + 1) * size);
      // Of answers for every token without those of padding.
      return output.rank === 3 ? whole.slice(0, (size / (output.shape[1] ?? 1)) * row.length) : whole;
    });
  });

for (const [name, task] of tasks) {
  test.serial(`${name}: rows with virtual tokens, others and none answer as alone, and the gradient reaches them`, async (t) => {
    const { network } = await openEncoder(goldenEncoder(name), task);
    for (const [i, config] of kinds.entries()) await attach(network, config, { name: `a${i}`, seed: i, activate: false });
    const set = await attach(network, { type: 'lora', targets: ['query'] }, { name: 'lora' });
    perturb(set);
    const ids = rowsOf(name).map((row) => row.ids);
    const rows = [ids[0], ids[1], ids[0], ids[1], ids[0]] as number[][];
    const mixes = [['a0'], ['a1'], [], ['a1', 'lora', 'a0'], ['lora']];
    const together = run(network, rows, mixes);
    for (const [b, row] of rows.entries()) {
      t.true(sameBits(run(network, [row], [mixes[b] as string[]])[0] as Float32Array, together[b] as Float32Array), String(mixes[b]));
      if (b === 0 || b === 1)
        t.false(sameBits(run(network, [row], [[]])[0] as Float32Array, together[b] as Float32Array), String(mixes[b]));
    }
    for (const checkpointing of [false, true]) {
      set.activate(['a0', 'a1']);
      scope(() => {
        const { input, context } = textBatch(ids);
        sum(square(network.forward(input, { ...context, training: false, checkpointing }))).backward();
      });
      for (const [label, value] of set.namedParameters()) {
        t.true(
          ((value.grad as Tensor).dataSync() as Float32Array).some((x) => x !== 0),
          label,
        );
        value.clearGrad();
      }
    }
    set.activate([]);
    t.throws(() => run(network, [Array.from({ length: 22 }, () => 5)], [['a1']]), {
      message: /longer than the context; got 26 tokens, expected at most 24/,
    });
    set.dispose();
    network.dispose();
  });
}

for (const [name, task] of tasks) {
  test.serial(`${name}: embeddings in front and prompts inside go together, whatever the length of the rows`, async (t) => {
    const { network } = await openEncoder(goldenEncoder(name), task);
    const set = await attach(network, { type: 'prompt', virtualTokens: 4 }, { name: 'front', seed: 1 });
    await attach(network, { type: 'deep-prompt', virtualTokens: 3 }, { name: 'inside', seed: 2 });
    const room = network.shape.contextLength;
    t.deepEqual([tokenRoom(network, ['inside']), tokenRoom(network, ['front', 'inside'])], [room, room - 4]);
    const rows = rowsOf(name).map((row) => [...row.ids]);
    const answers = [['front'], ['inside'], ['front', 'inside']].map((names) => {
      const mix = rows.map(() => names);
      const together = run(network, rows, mix);
      for (const [b, row] of rows.entries())
        t.true(sameBits(run(network, [row], [names])[0] as Float32Array, together[b] as Float32Array), `${names} ${b}`);
      return together[0] as Float32Array;
    });
    t.false(sameBits(answers[2] as Float32Array, answers[0] as Float32Array));
    t.false(sameBits(answers[2] as Float32Array, answers[1] as Float32Array));
    set.dispose();
    network.dispose();
  });
}
