// Poly and MHR: PEFT's files, plain forms, other numbers of tasks, and what is refused.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, loadAdapter, loadModel, type PolyConfig, resizeTasks, routing } from 'lorikeet';
import { Embedding, type ForwardContext, Module } from 'lorikeet/nn';
import { loadSafetensors } from '#dist/io/safetensors.js';
import type { Tensor } from '#dist/tensor.js';
import { golden, loadTiny, relativeError, sameBits, temporaryFolder, valuesOf } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { ids, ofTasks, onSingle, Single } from '../helpers/poly.js';
import { noise } from '../helpers/tiny-network.js';

for (const name of ['poly', 'mhr']) {
  test.serial(`${name}: PEFT's folder gives PEFT's logits, and is written back with the same bytes`, async (t) => {
    const folder = join(golden, 'poly', name);
    const { base, sequences } = JSON.parse(readFileSync(join(folder, 'reference.json'), 'utf8')) as {
      base: string;
      sequences: { ids: number[]; task: number; logits: number[][] }[];
    };
    const model = await loadModel(join(golden, base));
    const tuned = await loadAdapter(model, folder);
    for (const { ids: tokens, task, logits } of sequences)
      t.true(relativeError(await valuesOf(tuned.logits([tokens], { tasks: [task] })), logits.flat()) < 1e-5, `task ${task}`);
    const again = join(temporaryFolder(), name);
    await tuned.save(again, { baseModel: base });
    const [published, written] = await Promise.all([folder, again].map((each) => loadSafetensors(join(each, 'adapter_model.safetensors'))));
    t.deepEqual([...(written as Map<string, Tensor>).keys()].sort(), [...(published as Map<string, Tensor>).keys()].sort());
    for (const [key, value] of published as Map<string, Tensor>)
      t.true(sameBits(value.dataSync() as Float32Array, written?.get(key)?.dataSync() as Float32Array), key);
    const read = (each: string): object => JSON.parse(readFileSync(join(each, 'adapter_config.json'), 'utf8')) as object;
    t.deepEqual(read(again), read(folder));
    model.dispose();
  });
}

test.serial('one task is merged, and written as plain LoRA; so is the mean', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 3, splits: 2, alpha: 4, targets: ['q_proj', 'down_proj'] });
  perturb(tuned, 0.5);
  const folder = join(temporaryFolder(), 'plain');
  await t.throwsAsync(tuned.save(folder, { form: 'lora' }), { code: 'adapter', message: /holds one task of 3; got no task/ });
  await t.throwsAsync(tuned.merge(), { code: 'adapter', message: /got no task, expected task: 0 to 2/ });
  await t.throwsAsync(tuned.merge({ task: 3 }), { code: 'adapter', message: /no such task; got 3/ });
  for (const task of [2, 'mean'] as const) {
    const routed = await valuesOf(tuned.logits([ids], { tasks: [task] }));
    await tuned.merge({ task });
    t.true(relativeError(await valuesOf(tuned.logits([ids])), routed) < 1e-5);
    await tuned.unmerge();
    t.true(sameBits(await valuesOf(tuned.logits([ids], { tasks: [task] })), routed));
    await tuned.save(folder, { form: 'lora', task });
    const plain = await loadAdapter(model, folder, { name: 'plain' });
    t.like(JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')), { peft_type: 'LORA', r: 8, lora_alpha: 4 });
    t.true(relativeError(await valuesOf(plain.logits([ids])), routed) < 1e-5);
    plain.remove('plain');
    tuned.activate('default');
  }
  model.dispose();
});

test.serial('files: alpha goes into B for PEFT and stays in the native form; options that PEFT lacks are kept', async (t) => {
  const model = await loadTiny();
  const options = { tasks: 2, alpha: 3, gates: 'straight-through', granularity: 'blockwise', routerLearningRate: null } as const;
  const tuned = await attach(model, { type: 'poly', ...options });
  perturb(tuned, 0.5);
  const expected = await valuesOf(tuned.logits([ids], { tasks: [1] }));
  for (const form of ['published', 'native'] as const) {
    const folder = join(temporaryFolder(), form);
    await tuned.save(folder, { form });
    const file = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    t.like(file, { module_logits: 'straight-through', router_granularity: 'blockwise', module_logits_learning_rate: null });
    t.is(file.lora_alpha, form === 'native' ? 3 : undefined);
    const loaded = await loadAdapter(model, folder, { name: form });
    t.true(relativeError(await valuesOf(loaded.logits([ids], { tasks: [1] })), expected) < 1e-6);
    // Written once more, the keys are those of the values that it has now.
    await loaded.save(join(folder, 'again'), { name: form });
    const again = JSON.parse(readFileSync(join(folder, 'again', 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    t.is(again.lora_alpha, undefined);
    loaded.remove(form);
    tuned.activate('default');
  }
  model.dispose();
});

test.serial('resizeTasks keeps the first tasks', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 2 });
  perturb(tuned, 0.5);
  const before = await valuesOf(tuned.logits([ids], { tasks: [1] }));
  resizeTasks(tuned, 'default', 4);
  t.true(sameBits(await valuesOf(tuned.logits([ids], { tasks: [1] })), before));
  t.notThrows(() => tuned.logits([ids], { tasks: [3] }).dispose());
  t.is(routing(tuned, 'default').length, 8 * 4);
  t.like(tuned.adapters.get('default').config, { tasks: 4 });
  const folder = join(temporaryFolder(), 'more');
  await tuned.save(folder);
  t.like(JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')), { n_tasks: 4 });
  tuned.dispose();
  // A file whose logits are of another number of tasks than it says is refused.
  const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as object;
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, n_tasks: 3 }));
  await t.throwsAsync(loadAdapter(model, folder), { code: 'adapter', message: /module_logits: got \[4, 4\], expected \[3, 4\]/ });
  model.dispose();
});

test.serial('wrong options, tasks and files are errors', async (t) => {
  const network = new Single(12, 8);
  const refused: [Partial<PolyConfig>, RegExp][] = [
    [{ splits: 3 }, /splits must divide inputs and outputs of "layer"; got 3 for 12 inputs and 8 outputs/],
    [{ rank: 0 }, /rank .*got 0/],
    [{ skills: 0 }, /skills .*got 0/],
    [{ splits: 0.5 }, /splits .*got 0.5/],
    [{ tasks: -1 }, /tasks .*got -1/],
    [{ gates: 'hard' as never }, /gates .*"hard".*"relaxed"/],
    [{ gates: 'l2', sharedSkill: true }, /gates .*"l2"/],
    [{ gateDropout: 1 }, /gateDropout .*got 1/],
    [{ granularity: 'fine' as never }, /granularity .*"fine"/],
    [{ finetune: 'z' }, /finetune .*"z".*without "inventory"/],
    [{ branchWarmup: -1 }, /branchWarmup .*got -1/],
    [{ branchWarmup: 0.5 }, /branchWarmup .*got 0.5/],
    [{ annealing: { after: 3 } as never }, /annealing .*got \{"after":3\}, expected \{ after, passes \}/],
    [{ annealing: { after: 0, passes: 0 } }, /annealing .*"passes":0/],
    [{ annealing: { after: 0, passes: 5, steps: 1 } as never }, /annealing .*"steps":1/],
    [{ annealing: 5 as never }, /annealing .*got 5/],
    [{ routerLearningRate: 0 }, /routerLearningRate .*got 0/],
    [{ inventory: 'x', finetune: 'mu', gates: 'l2' }, /finetune .*"mu".*count alike/],
    [{ inventory: 'x', finetune: 'mu', gates: 'straight-through' }, /finetune .*"mu".*count alike/],
    [{ inventory: 'x', finetune: 'mu', sharedSkill: true }, /finetune .*"mu".*count alike/],
    [{ inventory: 'x', finetune: 'mu', averageCorrection: true }, /finetune .*"mu".*count alike/],
  ];
  for (const [options, message] of refused) await t.throwsAsync(onSingle(network, options), { code: 'config', message });

  class Words extends Module {
    layer = new Embedding(5, 4);
  }
  await t.throwsAsync(attach(new Words(), { type: 'poly', targets: ['layer'] }), {
    code: 'config',
    message: /Embedding, expected a linear layer/,
  });

  const { set } = await onSingle(network, { tasks: 2 });
  const x = noise([4, 12], 1);
  const failing: [ForwardContext, RegExp][] = [
    [{ training: false }, /shared by 2 tasks; got no task/],
    [ofTasks(2), /no such task; got 2, expected 0 to 1/],
    [ofTasks(-1), /no such task; got -1/],
    [ofTasks(0, 1, 0), /tasks of 3 rows for a batch of 4/],
    [{ training: false, tasks: [] }, /tasks of 0 rows/],
  ];
  for (const [context, message] of failing) t.throws(() => network.layer.forward(x, context), { code: 'adapter', message });
  await t.throwsAsync(set.merge(), { code: 'adapter', message: /got no task/ });
  t.throws(() => routing(set, 'other'), { code: 'adapter' });

  const model = await loadTiny();
  t.throws(() => model.logits([ids], { tasks: [0, 1] }), {
    code: 'shape',
    message: /"tasks" must name the task of every row; got 2 entries, expected 1/,
  });
  const folder = join(temporaryFolder(), 'strange');
  const tuned = await attach(model, { type: 'poly' });
  await tuned.save(folder);
  tuned.dispose();
  const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as object;
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, poly_type: 'mixture' }));
  await t.throwsAsync(loadAdapter(model, folder), { code: 'config', message: /unknown "poly_type"; got "mixture"/ });
  await t.throwsAsync(attach(model, { type: 'poly', inventory: join(golden, 'adapters', 'plain'), targets: ['q_proj'] }), {
    code: 'adapter',
    message: /holds another kind of adapter; got "lora"/,
  });
  model.dispose();
});
