// What a network forgets: trunk and old head know odd digits, adapters on the trunk and a new head learn even ones whose pixels are permuted or inverted; then the
// old head is asked again. Knowledge-preserving CorDA should forget least.
import { type AdapterConfig, attach, type CalibrationRuns } from '#dist/adapters/index.js';
import { Linear } from '#dist/nn/index.js';
import { tensor } from '#dist/ops/create.js';
import { add, mul, relu } from '#dist/ops/elementwise.js';
import { indexSelect } from '#dist/ops/index-ops.js';
import { logitsCrossEntropy } from '#dist/ops/loss.js';
import { AdamW } from '#dist/optim/index.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { accuracy, disposeTasks, kClasses, type Mlp, pretrained, readTasks, step, type Task } from '../../test/helpers/digits.js';
import { type Report, rounded } from '../harness.js';

const kSteps = 600;
const kRank = 8;

const inits = {
  KPM: { type: 'corda', method: 'kpm' },
  LoRA: true,
  PiSSA: 'pissa',
  IPM: { type: 'corda', method: 'ipm' },
} as const;
type Method = keyof typeof inits;

interface Forgetting {
  readonly oldLoss: number;
  readonly oldAccuracy: number;
  readonly steps: number;
}

/** Fixed shuffling of the 64 pixels, or 1 - x of pixels before they are centred. */
const domains: Readonly<Record<string, (images: Tensor, means: Tensor) => Tensor>> = {
  permuted: (images) => {
    const order = Array.from({ length: 64 }, (_, i) => (i * 27 + 11) % 64);
    return indexSelect(images, 1, tensor(order, { dtype: 'i64' }));
  },
  inverted: (images, means) => add(mul(add(images, mul(means, 2)), -1), 1),
};

const trunk = (network: Mlp, x: Tensor): Tensor => relu(network.fc2.forward(relu(network.fc1.forward(x))));

function contextOf(method: Method, network: Mlp, old: Task, fresh: Tensor): { data?: CalibrationRuns<Tensor> } {
  if (method !== 'KPM' && method !== 'IPM') return {};
  const first = (x: Tensor): Tensor =>
    indexSelect(
      x,
      0,
      tensor(
        Array.from({ length: 128 }, (_, i) => i),
        { dtype: 'i64' },
      ),
    );
  const rows = method === 'KPM' ? old.images : fresh;
  return { data: { batches: [rows], forward: (images) => trunk(network, first(images)) } };
}

async function forgetting(
  network: Mlp,
  old: Task,
  fresh: Task,
  images: Tensor,
  method: Method,
  limit: number,
  seed: number,
): Promise<Forgetting> {
  const config = { type: 'lora', rank: kRank, alpha: kRank, targets: ['fc1', 'fc2'], init: inits[method] } as unknown as AdapterConfig;
  const set = await attach(network, config, { seed, ...contextOf(method, network, old, images) });
  const head = new Linear(256, kClasses, { bias: false, seed: 100 + seed });
  const optimizer = new AdamW([...set.parameters(), ...head.trainableParameters()], { learningRate: 1e-3, weightDecay: 0 });
  let steps = 0;
  for (; steps < kSteps; steps++) {
    const loss = step(optimizer, () => logitsCrossEntropy(head.forward(trunk(network, images)), fresh.labels));
    if (loss < limit) break;
  }
  const oldLoss = await scope(() => noGrad(() => logitsCrossEntropy(network.forward(old.images), old.labels)).item());
  const oldAccuracy = await accuracy(network, old);
  optimizer.dispose();
  head.dispose();
  set.dispose();
  return { oldLoss, oldAccuracy, steps };
}

/** Means over the seeds of the old head's loss and accuracy, and of the steps to the new loss; prints whether the published order holds. */
export async function runRetention(seeds: readonly number[], folder: string, report: Report): Promise<object> {
  const tasks = readTasks(folder);
  const networks = seeds.map((seed) => pretrained(seed, tasks.old));
  const rows = [];
  const claims = [];
  for (const [domain, change] of Object.entries(domains)) {
    const images = scope(() => change(tasks.fresh.images, tasks.means));
    for (const limit of [0.05, 0.01]) {
      const means = {} as Record<Method, Forgetting>;
      for (const method of Object.keys(inits) as Method[]) {
        const all: Forgetting[] = [];
        for (const [i, network] of networks.entries())
          all.push(await forgetting(network, tasks.old, tasks.fresh, images, method, limit, seeds[i] ?? 0));
        const mean = (key: keyof Forgetting): number => all.reduce((sum, each) => sum + each[key], 0) / all.length;
        means[method] = { oldLoss: mean('oldLoss'), oldAccuracy: mean('oldAccuracy'), steps: mean('steps') };
        const { oldLoss, oldAccuracy, steps } = means[method];
        rows.push({
          domain,
          limit,
          method,
          'old loss': rounded(oldLoss, 4),
          'old accuracy': rounded(oldAccuracy, 3),
          steps: rounded(steps, 0),
        });
      }
      const { KPM, LoRA, PiSSA, IPM } = means;
      claims.push({
        claim: `${domain}, ${limit}: old loss KPM < LoRA < PiSSA < IPM, KPM at most 0.8 of LoRA`,
        holds: KPM.oldLoss <= 0.8 * LoRA.oldLoss && LoRA.oldLoss < PiSSA.oldLoss && PiSSA.oldLoss < IPM.oldLoss,
      });
      claims.push({
        claim: `${domain}, ${limit}: steps IPM < PiSSA < LoRA and KPM`,
        holds: IPM.steps < PiSSA.steps && PiSSA.steps < Math.min(LoRA.steps, KPM.steps),
      });
    }
    images.dispose();
  }
  report.line('\nRetention: the old head after learning a new task');
  report.table(rows);
  for (const { claim, holds } of claims) report.line(`${holds ? 'holds' : 'FAILS'}  ${claim}`);
  for (const network of networks) network.dispose();
  disposeTasks(tasks);
  return { rows, claims };
}
