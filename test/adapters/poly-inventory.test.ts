// Poly and MHR: few-shot training from an inventory, the mean of its skills, routers that layers share, and published counts.
import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, attach, loadAdapter, type PolyConfig } from 'lorikeet';
import { Linear, Module, ModuleList } from 'lorikeet/nn';
import { mul, square, sub, sum, transpose } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';
import type { PolyLinear } from '#dist/adapters/poly-linear.js';
import { PolyRouter } from '#dist/adapters/poly-router.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { loadTiny, relativeError, temporaryFolder, valuesOf } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { ids, onSingle, put, Single, spread, values } from '../helpers/poly.js';
import { noise } from '../helpers/tiny-network.js';

test.serial('routers are shared as the granularity says, and trained once', async (t) => {
  const counts = { finegrained: 8, layerwise: 2, blockwise: 2, coderwise: 1, coarsegrained: 1 } as const;
  for (const [granularity, routers] of Object.entries(counts)) {
    const model = await loadTiny();
    const tuned = await attach(model, { type: 'poly', granularity: granularity as keyof typeof counts });
    t.is([...tuned.namedParameters()].filter(([name]) => name.endsWith('module_logits')).length, routers, granularity);
    t.is(new Set(tuned.parameters()).size, tuned.parameters().length);
    t.is(
      tuned.table().reduce((total, { parameters }) => total + parameters, 0),
      tuned.parameters().reduce((total, { size }) => total + size, 0),
    );
    model.dispose();
  }
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', granularity: 'layerwise', targets: ['q_proj', 'down_proj'] });
  t.is([...tuned.namedParameters()].filter(([name]) => name.endsWith('module_logits')).length, 4);
  model.dispose();
});

test.serial('few-shot from an inventory: what is trained, what stays, and the mean', async (t) => {
  const model = await loadTiny();
  const targets = ['q_proj', 'v_proj'];
  const pretrained = await attach(model, { type: 'poly', tasks: 5, skills: 3, rank: 2, splits: 2, alpha: 2, targets });
  perturb(pretrained, 0.5);
  const inventory = join(temporaryFolder(), 'inventory');
  await pretrained.save(inventory);
  const mean = await valuesOf(pretrained.logits([ids], { tasks: ['mean'] }));
  const skills = new Map([...pretrained.namedParameters()].map(([name, value]) => [name, values(value)]));
  pretrained.dispose();
  const trainedEnds = { full: ['A', 'B', 'Z'], z: ['Z'], mu: ['A', 'B'], rand: ['A', 'B', 'Z'] } as const;
  for (const [finetune, trained] of Object.entries(trainedEnds)) {
    const tuned = await attach(model, { type: 'poly', inventory, finetune: finetune as keyof typeof trainedEnds, targets });
    t.like(tuned.adapters.get('default').config, { rank: 2, skills: 3, splits: 2, tasks: 1 });
    const ends = { poly_lora_A: 'A', poly_lora_B: 'B', module_logits: 'Z' } as const;
    for (const [name, value] of tuned.namedParameters()) {
      const [end, letter] = Object.entries(ends).find(([each]) => name.endsWith(each)) as [string, 'A' | 'B' | 'Z'];
      t.is(value.requiresGrad, (trained as readonly string[]).includes(letter), `${finetune} ${name}`);
      if (letter === 'Z') t.deepEqual(value.shape, [1, 6]);
      else if (finetune === 'rand') t.notDeepEqual(values(value), skills.get(name));
      else if (end === 'poly_lora_A') t.deepEqual(values(value), skills.get(name));
    }
    if (finetune !== 'rand') {
      const error = relativeError(await valuesOf(tuned.logits([ids])), mean);
      t.true(error < (finetune === 'mu' ? 1e-6 : 1e-2), `${finetune} ${error}`);
    }
    if (finetune === 'mu') {
      // PEFT computes the same from equal logits.
      const folder = join(temporaryFolder(), 'mu');
      await tuned.save(folder);
      const loaded = await loadAdapter(model, folder, { name: 'again' });
      t.true(relativeError(await valuesOf(loaded.logits([ids])), mean) < 1e-6);
      loaded.remove('again');
    }
    tuned.dispose();
  }
  await t.throwsAsync(attach(model, { type: 'poly', inventory, targets: ['q_proj'] }), {
    code: 'config',
    message: /skills for ".*v_proj", which is no target/,
  });
  await t.throwsAsync(attach(model, { type: 'poly', inventory, targets: ['q_proj', 'v_proj', 'k_proj'] }), {
    code: 'config',
    message: /no skills for ".*k_proj"/,
  });
  t.deepEqual((await attach(model, { type: 'lora' })).names, ['default']);
  model.dispose();
});

test.serial('the mean of the copies of mu is one adapter trained from the mean', async (t) => {
  const skills = 4;
  const network = new Single(12, 8, 'f64');
  const { set: first } = await onSingle(network, { tasks: 2, skills, rank: 2, alpha: 2, randomB: true });
  spread(first);
  const names = ['poly_lora_A', 'poly_lora_B'] as const;
  const module = first.get('default').placements[0]?.module as PolyLinear;
  const starts = names.map((name) => noGrad(() => module[name].detach()));
  const means = starts.map((start) => noGrad(() => mul(sum(start, [0, 1]), 1 / skills)));
  const x = noise([6, 12], 3, 'f64');
  const target = noise([6, 8], 4, 'f64');
  const lossOf = (on: Single): Tensor => sum(square(sub(on.layer.forward(x, { training: true }), target)));
  const settings = { learningRate: 1e-2, weightDecay: 0, eps: 1e-30 };
  first.dispose();

  const { module: copies, set } = await onSingle(network, { skills, rank: 2, alpha: 2 });
  for (const [i, name] of names.entries()) put(copies[name], starts[i] as Tensor);
  // What `finetune: 'mu'` makes of a router.
  (copies as { poly_router: PolyRouter }).poly_router = new PolyRouter(
    noGrad(() => mul(copies.poly_router.module_logits, 0)),
    copies.poly_router.settings,
    true,
  );
  const single = new Single(12, 8, 'f64');
  const plain = await attach(single, { type: 'lora', rank: 2, alpha: 2, targets: ['layer'] });
  const [loraA, loraB] = plain.parameters() as [Tensor, Tensor];
  put(loraA, transpose(means[0] as Tensor));
  put(loraB, transpose(means[1] as Tensor));
  const optimizers = [
    new AdamW(
      names.map((name) => copies[name]),
      settings,
    ),
    new AdamW([loraA, loraB], settings),
  ];
  for (let step = 0; step < 50; step++) {
    for (const [i, on] of [network, single].entries()) {
      scope(() => lossOf(on).backward());
      optimizers[i]?.step();
      optimizers[i]?.zeroGrad();
    }
  }
  const meanOf = (name: (typeof names)[number]): number[] => values(noGrad(() => transpose(mul(sum(copies[name], [0, 1]), 1 / skills))));
  t.true(relativeError(meanOf('poly_lora_A'), values(loraA)) < 1e-4);
  t.true(relativeError(meanOf('poly_lora_B'), values(loraB)) < 1e-4);
  t.truthy(set);
});

/** The linear layers of T5-XL (24 blocks of an encoder with 7, 24 of a decoder with 11); without weights. */
class T5 extends Module {
  layers: ModuleList<Linear>;

  constructor() {
    super();
    const wide = 5120;
    const attention: [number, number][] = new Array<[number, number]>(4).fill([2048, 2048]);
    const mlp: [number, number][] = [
      [2048, wide],
      [2048, wide],
      [wide, 2048],
    ];
    const block = [...attention, ...mlp];
    const shapes = Array.from({ length: 24 }, () => [...block, ...attention, ...block]).flat();
    this.layers = new ModuleList(shapes.map(([inputs, outputs]) => new Linear(inputs, outputs, { init: 'none', role: 'mlp' })));
  }
}

test.serial('numbers on T5-XL are those of the published inventories', async (t) => {
  const counts = async (options: Partial<PolyConfig>): Promise<{ factors: number; logits: number }> => {
    using set = await attach(new T5(), { type: 'poly', rank: 1, targets: 'all-linear', ...options } as AdapterConfig);
    const count = (end: RegExp): number =>
      [...set.namedParameters()].filter(([name]) => end.test(name)).reduce((total, [, { size }]) => total + size, 0);
    return { factors: count(/lora_[AB]$/), logits: count(/logits$/) };
  };
  t.is(new T5().layers.length, 432);
  t.is((await counts({ skills: 1 })).factors, 2_211_840);
  t.deepEqual(await counts({ skills: 8 }), { factors: 17_694_720, logits: 3456 });
  t.deepEqual(await counts({ skills: 8, splits: 64 }), { factors: 17_694_720, logits: 221_184 });
});
