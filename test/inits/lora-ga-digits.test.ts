// LoRA-GA on the DIGITS-MLP experiment: means over seeds are compared with each other and with published ones.
import test from 'ava';
import { attach } from '#dist/adapters/index.js';
import { Calibration } from '#dist/inits/calibration.js';
import { weightGradients } from '#dist/inits/weight-gradients.js';
import { svd } from '#dist/linalg/index.js';
import { add, mul, square } from '#dist/ops/elementwise.js';
import { matmul } from '#dist/ops/linalg.js';
import { sum } from '#dist/ops/reduce.js';
import { narrow, transpose } from '#dist/ops/shape.js';
import { scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { calibration, curve, disposeTasks, fullCurve, loraConfig, meanCurve, pretrained, readTasks } from '../helpers/digits.js';
import { dataFolder } from '../helpers/folders.js';
import { contextOf, startLayers } from '../helpers/init-context.js';

const kSeeds = [1, 2];
const kRank = 4;
/** The last layer has 5 outputs, and a gradient of that rank. */
const kLast = 2;
const adapter = (init: unknown) => loraConfig(kRank, 16, { rsLora: true, init }, kLast);
const show = (values: readonly number[]): string => values.map((value) => value.toFixed(4)).join(' ');

test.serial('LoRA-GA learns as full fine-tuning does, and twice as fast as LoRA', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const tasks = readTasks(folder);
  const networks = kSeeds.map((seed) => pretrained(seed, tasks.old));
  const mean = async (init: unknown, steps: number, learningRate = 1e-3): Promise<number[]> => {
    const variant = { adapter: adapter(init), learningRate, data: init !== true };
    return meanCurve(await Promise.all(networks.map((network, i) => curve(network, tasks.fresh, variant, steps, i + 1))));
  };
  const lora = await mean(true, 51);
  const strong = await mean('lora-ga', 26);
  const weak = await mean({ type: 'lora-ga', stableGamma: 64 }, 100);
  const full = meanCurve(kSeeds.map((seed) => fullCurve(seed, tasks, 1e-3)));
  const at = (losses: readonly number[], index: number): number => losses[index] ?? Number.NaN;
  const columns = [10, 25, 50, 99];
  t.log('gamma 64', show(columns.map((i) => at(weak, i))), 'full fine-tuning', show(columns.map((i) => at(full, i))));
  t.log('gamma 16', show([10, 25].map((i) => at(strong, i))), 'LoRA', show([10, 25, 50].map((i) => at(lora, i))));
  for (const i of columns) t.true(Math.abs(at(weak, i) / at(full, i) - 1) < 0.3, `step ${i}`);
  t.true(at(strong, 10) < at(lora, 25));
  t.true(at(strong, 25) < at(lora, 50));
  const [slow, plain] = [await mean('lora-ga', 26, 3e-4), await mean(true, 26, 3e-4)];
  t.log('rate 3e-4: gamma 16', show([at(slow, 25)]), 'LoRA', show([at(plain, 25)]));
  t.true(at(slow, 25) < 0.5 * at(plain, 25));
  for (const network of networks) network.dispose();
  disposeTasks(tasks);
});

test.serial('the first step is aligned with the gradient', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const tasks = readTasks(folder);
  const network = pretrained(1, tasks.old);
  const data = calibration(network, tasks.fresh);
  const gradients = new Map<string, Tensor>();
  const context = contextOf(network, new Calibration(data));
  for await (const { path, gradient } of weightGradients(startLayers(network), context, { reduce: 'mean' })) gradients.set(path, gradient);
  const value = (x: Tensor): number => x.dataSync()[0] as number;
  const norm = (x: Tensor): number => Math.sqrt(value(sum(square(x))));
  const cosines = async (init: unknown, withData = false): Promise<number[]> => {
    const set = await attach(network, adapter(init), withData ? { data } : {});
    const factors = new Map([...set.namedParameters()].map(([name, factor]) => [name, factor.detach()]));
    const found = [...gradients].map(([path, g]) =>
      scope(() => {
        const [a, b] = ['A', 'B'].map((letter) => factors.get(`${path}.lora_${letter}.weight`)) as [Tensor, Tensor];
        const moved = add(matmul(matmul(b, transpose(b)), g), matmul(g, matmul(transpose(a), a)));
        return value(sum(mul(moved, g))) / (norm(moved) * norm(g));
      }),
    );
    set.dispose();
    return found;
  };
  const best = [...gradients].map(([path, g]) =>
    scope(() => {
      const { s } = svd(g);
      return norm(narrow(s, 0, 0, 2 * (path === 'fc3' ? kLast : kRank))) / norm(s);
    }),
  );
  const [ours, principal, plain] = [await cosines('lora-ga', true), await cosines('pissa'), await cosines(true)];
  t.log('best', show(best), 'LoRA-GA', show(ours), 'PiSSA', show(principal), 'LoRA', show(plain));
  for (const [i, cosine] of ours.entries()) {
    t.true(Math.abs(cosine - (best[i] as number)) < 1e-2);
    t.true((plain[i] as number) < 0.4 && (principal[i] as number) < cosine);
  }
  const sketched = await cosines({ type: 'lora-ga', sketch: true }, true);
  t.log('from sketches', show(sketched));
  for (const [i, cosine] of sketched.entries()) t.true(cosine > (best[i] as number) - 0.02);
  network.dispose();
  disposeTasks(tasks);
});
