// LoRA, LoRA+ and rsLoRA on the DIGITS-MLP experiment: means over seeds are compared with published ones.
import test from 'ava';
import { loraPlusGroups } from '#dist/adapters/index.js';
import { curve, disposeTasks, loraConfig, meanCurve, pretrained, readTasks, type Variant } from '../helpers/digits.js';
import { dataFolder } from '../helpers/folders.js';

const kSeeds = [1, 2];

test.serial('LoRA, LoRA+ and rsLoRA learn as fast as published', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const tasks = readTasks(folder);
  const networks = kSeeds.map((seed) => pretrained(seed, tasks.old));
  const mean = async (variant: Variant, steps: number): Promise<number[]> =>
    meanCurve(await Promise.all(networks.map((network, i) => curve(network, tasks.fresh, variant, steps, i + 1))));
  const learningRate = 1e-3;
  const lora8 = await mean({ adapter: loraConfig(8, 8), learningRate }, 100);
  const lora4 = await mean({ adapter: loraConfig(4, 4), learningRate }, 100);
  const plus = await mean(
    { adapter: loraConfig(8, 8), learningRate, groups: (set) => loraPlusGroups(set, { learningRate, ratio: 16 }) },
    100,
  );
  const at = (curveOf: readonly number[]): number[] => [10, 25, 50, 99].map((i) => curveOf[i] ?? Number.NaN);
  for (const [name, values] of Object.entries({ 'LoRA r 8': lora8, 'LoRA r 4': lora4, 'LoRA+ r 8': plus }))
    t.log(
      name,
      at(values)
        .map((x) => x.toFixed(4))
        .join(' '),
    );
  const published = [3.58, 2.59, 1.0, 0.16];
  for (const [i, value] of at(lora8).entries()) {
    t.true(Math.abs(value / (published[i] ?? 1) - 1) < 0.5, `LoRA: ${value} beside ${published[i]}`);
    t.true(value < (at(lora4)[i] ?? 0), 'rank 8 beats rank 4');
  }
  t.true((lora8[99] ?? 1) <= 0.25);
  t.true((plus[25] ?? 1) < (lora8[50] ?? 0), 'LoRA+ is twice as fast');

  const [plain, stable] = [[] as number[], [] as number[]];
  for (const rank of [4, 16, 64]) {
    const half = { learningRate: 5e-4 };
    plain.push((await mean({ adapter: loraConfig(rank, 8), ...half }, 51))[50] ?? Number.NaN);
    stable.push((await mean({ adapter: loraConfig(rank, 8, { rsLora: true }), ...half }, 51))[50] ?? Number.NaN);
  }
  t.log(
    'alpha / rank at step 50',
    plain.map((x) => x.toFixed(2)).join(' '),
    'alpha / sqrt(rank)',
    stable.map((x) => x.toFixed(2)).join(' '),
  );
  t.true(Math.max(...plain) / Math.min(...plain) < 1.05, 'plain scaling gains nothing from rank');
  t.true((stable[1] ?? 1) <= 0.7 * (stable[0] ?? 0) && (stable[2] ?? 1) <= 0.7 * (stable[1] ?? 0), 'rsLoRA gains at each rank');
  disposeTasks(tasks);
  for (const network of networks) network.dispose();
});
