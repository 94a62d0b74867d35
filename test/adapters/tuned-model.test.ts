import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, loadAdapter, loadModel, type Model, sample, saveModel, TunedModel } from 'lorikeet';
import { AdamW } from '#dist/optim/index.js';
import { noGrad, scope } from '#dist/scope.js';
import { loadTiny, logitsOf, readReference, referenceError, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { shippedModel } from '../helpers/shipped.js';

const ids = [3, 17, 42, 5, 8, 80];

test.serial('there is one tuned model for a model, and both compute the same', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'lora' }, { name: 'a' });
  perturb(tuned);
  t.is(await attach(model, { type: 'lora' }, { name: 'b' }), tuned);
  t.is(TunedModel.of(model), tuned);
  tuned.activate('a');
  t.true(sameBits(await logitsOf(model, ids), await logitsOf(tuned, ids)));
  t.deepEqual([tuned.config, tuned.dtype, tuned.device, tuned.endTokens], [model.config, model.dtype, model.device, model.endTokens]);
  tuned.dispose();
  tuned.dispose();
  t.throws(() => tuned.logits([ids]), { code: 'disposed', message: /logits: this tuned model was disposed/ });
  await t.throwsAsync(attach(tuned, { type: 'lora' }), { code: 'disposed', message: /attach to the model itself/ });
  t.not(await attach(model, { type: 'lora' }), tuned);
  model.dispose();
});

test.serial('rows of logits use the adapters they name', async (t) => {
  const model = await loadTiny();
  const base = await logitsOf(model, ids);
  const tuned = await attach(model, { type: 'lora' }, { name: 'a' });
  perturb(tuned);
  const adapted = await logitsOf(tuned, ids);
  const both = await scope(async () => (await tuned.logits([ids, ids], { rows: [[], ['a']] }).data()) as Float32Array);
  t.true(sameBits(both.slice(0, base.length), base));
  t.true(sameBits(both.slice(base.length), adapted));
  tuned.dispose();
  model.dispose();
});

test.serial('decoding through a cache by rows gives the bits of each row alone', async (t) => {
  const model = await loadTiny();
  await attach(model, { type: 'lora' }, { name: 'a', seed: 1 });
  const tuned = await attach(model, { type: 'lora', dora: true, targets: 'all-linear' }, { name: 'b', seed: 2 });
  for (const name of tuned.names) {
    tuned.activate(name);
    perturb(tuned, 0.2);
  }
  const rows = [['a'], [], ['b'], ['a', 'b']];
  const decode = (chosen: readonly number[]): Float32Array[] =>
    scope(() =>
      noGrad(() => {
        const cache = tuned.cache(chosen.length, 16);
        const options = { cache, rows: chosen.map((row) => rows[row] as string[]), training: false };
        tuned.forward(
          chosen.map(() => ids),
          options,
        );
        const hidden = tuned.forward(
          chosen.map((row) => [row + 5]),
          options,
        );
        const values = hidden.dataSync() as Float32Array;
        cache.dispose();
        const width = values.length / chosen.length;
        return chosen.map((_, i) => values.slice(i * width, (i + 1) * width));
      }),
    );
  const together = decode([0, 1, 2, 3]);
  for (const row of [0, 1, 2, 3]) t.true(sameBits(together[row] as Float32Array, decode([row])[0] as Float32Array), `row ${row}`);
  tuned.dispose();
  model.dispose();
});

test.serial('adapters trained in the rows of one batch end with the bits of training alone', async (t) => {
  const model = await loadTiny();
  const texts: Record<string, number[]> = { a: ids, b: [9, 4, 77, 3], c: [50, 51, 52, 53, 54, 55, 56, 57] };
  const run = async (names: readonly string[]): Promise<Map<string, Float32Array[]>> => {
    await attach(model, { type: 'lora', dropout: 0.1, targets: 'all-linear' }, { name: 'a', seed: 1 });
    await attach(model, { type: 'lora', rank: 3, loraBias: true }, { name: 'b', seed: 2 });
    const tuned = await attach(
      model,
      { type: 'lora', dora: true, targets: ['q_proj', 'embed_tokens', 'down_proj'] },
      { name: 'c', seed: 3 },
    );
    const optimizer = new AdamW(tuned.parameters(names), { learningRate: 1e-2 });
    const rows = { ids: names.map((name) => texts[name] as number[]), rows: names.map((name) => [name]) };
    for (let step = 0; step < 4; step++) {
      scope(() => tuned.loss({ ...rows, training: true, reduction: 'sum' }).backward());
      optimizer.step();
      optimizer.zeroGrad();
    }
    const found = new Map(names.map((name) => [name, tuned.parameters([name]).map((value) => value.dataSync() as Float32Array)]));
    optimizer.dispose();
    tuned.dispose();
    return found;
  };
  const together = await run(['a', 'b', 'c']);
  for (const name of ['a', 'b', 'c']) {
    const alone = (await run([name])).get(name) as Float32Array[];
    for (const [i, values] of alone.entries())
      t.true(sameBits(values, (together.get(name) as Float32Array[])[i] as Float32Array), `${name} ${i}`);
  }
  model.dispose();
});

test.serial('recomputing blocks in backward gives the same gradients, dropout included', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'lora', targets: 'all-linear', dropout: 0.3 }, { seed: 3 });
  perturb(tuned);
  const state = tuned.adapters.randomState('default');
  const gradients = (checkpointing: boolean): Float32Array[] => {
    tuned.adapters.restoreRandomState('default', state);
    scope(() => tuned.loss({ ids: [ids], training: true, checkpointing }).backward());
    return tuned.parameters().map((value) => {
      const gradient = value.grad;
      const values = gradient?.dataSync() as Float32Array;
      gradient?.dispose();
      value.clearGrad();
      return values;
    });
  };
  const [kept, recomputed] = [gradients(false), gradients(true)];
  for (const [i, values] of kept.entries()) t.true(relativeError(recomputed[i] as Float32Array, values) < 1e-6, String(i));
  tuned.dispose();
  model.dispose();
});

test.serial('an adapted model generates, and the base again when it is disabled', async (t) => {
  const model = await loadTiny();
  const run = async (from: Model | TunedModel): Promise<readonly number[]> =>
    (await sample(from, ids, { maxNewTokens: 6, temperature: 0 })).ids;
  const before = await run(model);
  const tuned = await attach(model, { type: 'lora', targets: 'all-linear' });
  perturb(tuned, 0.5);
  const adapted = await run(tuned);
  t.notDeepEqual(adapted, before);
  await tuned.merge();
  t.deepEqual(await run(tuned), adapted);
  await tuned.unmerge();
  tuned.disable();
  t.deepEqual(await run(tuned), before);
  tuned.dispose();
  model.dispose();
});

test.serial('several active adapters are saved into folders of their names, one by name into the folder itself', async (t) => {
  const model = await loadTiny();
  await attach(model, { type: 'lora', rank: 2 }, { name: 'a' });
  const tuned = await attach(model, { type: 'lora', rank: 3, targets: { roles: ['mlp'] } }, { name: 'b' });
  tuned.activate(['a', 'b']);
  const folder = temporaryFolder();
  t.deepEqual(await tuned.save(join(folder, 'both')), [join(folder, 'both', 'a'), join(folder, 'both', 'b')]);
  t.deepEqual(readdirSync(join(folder, 'both')).sort(), ['a', 'b']);
  await tuned.save(join(folder, 'one'), { name: 'b' });
  t.true(existsSync(join(folder, 'one', 'adapter_config.json')));
  tuned.deactivate();
  await t.throwsAsync(tuned.save(join(folder, 'none')), { code: 'adapter', message: /no adapter is active/ });
  const again = await loadAdapter(model, join(folder, 'one'), { name: 'c' });
  t.deepEqual(
    again.table(['c']).map(({ path }) => path),
    tuned.table(['b']).map(({ path }) => path),
  );
  tuned.dispose();
  model.dispose();
});

test.serial('the loss of an adapted head is that of its logits, and a disabled one leaves the base bits', async (t) => {
  const model = await loadTiny('models/llama-sharded');
  const lossOf = (): number => scope(() => noGrad(() => tuned.loss({ ids: [ids] }).dataSync()[0] as number));
  const tuned = TunedModel.of(model);
  const base = lossOf();
  await attach(model, { type: 'lora', targets: ['lm_head'] });
  t.true(Math.abs(lossOf() - base) < 1e-6);
  perturb(tuned);
  const logits = await logitsOf(tuned, ids);
  const width = logits.length / ids.length;
  const nll = ids.slice(1).map((id, i) => {
    const row = Array.from(logits.subarray(i * width, (i + 1) * width));
    return Math.log(row.reduce((total, value) => total + Math.exp(value), 0)) - (row[id] ?? 0);
  });
  t.true(Math.abs(lossOf() - nll.reduce((total, value) => total + value, 0) / nll.length) < 1e-5);
  tuned.disable();
  t.is(lossOf(), base);
  tuned.dispose();
  model.dispose();
});

for (const name of ['lm-head-tied', 'embedding-tied', 'token-indices-tied', 'modules-to-save-both']) {
  test.serial(`a merged model that is saved and loaded computes as the adapted one, tied or not: ${name}`, async (t) => {
    const folder = `test/golden/adapters/${name}`;
    const reference = readReference(`${folder}/reference.json`);
    const model = await loadTiny(reference.base);
    const tuned = await loadAdapter(model, folder);
    await tuned.merge();
    const out = join(temporaryFolder(), 'merged');
    await saveModel(tuned, out);
    const merged = await loadModel(out);
    t.true((await referenceError(merged, reference)) < 1e-5);
    merged.dispose();
    tuned.dispose();
    model.dispose();
  });
}

test.serial('pattern keys that decide for no layer are errors', async (t) => {
  const model = await loadTiny();
  await t.throwsAsync(attach(model, { type: 'lora', rankPattern: { q_porj: 2 } }), {
    code: 'config',
    message: /rankPattern key "q_porj" decides for no adapted layer; did you mean "q_proj"/,
  });
  await t.throwsAsync(attach(model, { type: 'lora', alphaPattern: { q_proj: 2, 'self_attn.q_proj': 3 } }), {
    message: /alphaPattern key "self_attn\.q_proj" decides for no/,
  });
  model.dispose();
});

test.serial('bias "all" is fine for a model without biases, as in PEFT', async (t) => {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, { type: 'lora', bias: 'all', targets: ['q_proj'] });
  t.true([...tuned.namedParameters()].every(([name]) => name.includes('lora_')));
  const folder = temporaryFolder();
  await tuned.save(folder);
  tuned.dispose();
  const again = await loadAdapter(model, folder);
  t.is([...again.namedParameters()].length, 10);
  model.dispose();
});

test.serial('one attach at a time on a network', async (t) => {
  const model = await loadTiny();
  const first = attach(model, { type: 'lora' }, { name: 'first' });
  await t.throwsAsync(attach(model, { type: 'lora' }, { name: 'second' }), {
    code: 'adapter',
    message: 'attach: another attach on this network is still running; await it first',
  });
  const tuned = await first;
  await attach(tuned, { type: 'lora' }, { name: 'second' });
  t.deepEqual(tuned.names, ['first', 'second']);
  tuned.dispose();
  await t.throwsAsync(attach(model, { type: 'lora', targets: ['none_such'] }));
  (await attach(model, { type: 'lora' })).dispose();
  model.dispose();
});
