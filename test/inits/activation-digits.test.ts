// Initialisations that look at inputs, on the DIGITS-MLP experiment: beside LoRA on the same networks, and beside published figures.
import test from 'ava';
import { attach } from '#dist/adapters/index.js';
import { concat } from '#dist/ops/join.js';
import { curve, disposeTasks, firstRows, loraConfig, meanCurve, pretrained, readTasks } from '../helpers/digits.js';
import { dataFolder } from '../helpers/folders.js';

const kSeeds = [1, 2];
const kSteps = [10, 25, 50, 99];
const kRank = 8;

test.serial('EVA and CorDA learn faster than LoRA, and EVA gives ranks as published', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const tasks = readTasks(folder);
  const networks = kSeeds.map((seed) => pretrained(seed, tasks.old));
  const losses = async (name: string, init?: object | 'pissa'): Promise<number[]> => {
    const looks = init !== undefined && init !== 'pissa';
    const variant = { adapter: loraConfig(kRank, kRank, init && { init }), learningRate: 1e-3, data: looks };
    const mean = meanCurve(await Promise.all(networks.map((network, i) => curve(network, tasks.fresh, variant, 100, i + 1))));
    const found = kSteps.map((step) => mean[step] ?? Number.NaN);
    t.log(name, found.map((x) => x.toPrecision(3)).join(' '));
    return found;
  };
  const lora = await losses('LoRA');
  const eva = await losses('EVA', { type: 'eva', rho: 1 });
  for (const [i, published] of [2.94, 1.64, 0.54, 0.085].entries()) {
    const loss = eva[i] ?? Number.NaN;
    t.true(loss < (lora[i] ?? 0), `below LoRA: ${loss} beside ${lora[i]}`);
    t.true(Math.abs(loss / published - 1) < 0.3, `${loss} beside ${published}`);
  }
  t.true((eva[3] ?? 1) <= 0.65 * (lora[3] ?? 0));
  const pissa = await losses('PiSSA', 'pissa');
  const ipm = await losses('CorDA IPM', { type: 'corda' });
  for (const [i, published] of [0.56, 0.088, 0.008, 0.0012].entries()) {
    const loss = ipm[i] ?? Number.NaN;
    t.true(loss < (pissa[i] ?? 0) && (pissa[i] ?? 0) < (lora[i] ?? 0), `${loss} below ${pissa[i]} below ${lora[i]}`);
    t.true(loss < 2 * published, `${loss} beside ${published}`);
  }

  const rows = concat([tasks.fresh.images, firstRows(tasks.held.images, 40)]);
  for (const network of networks) {
    const config = loraConfig(kRank, kRank, { init: 'eva' }, kRank);
    const set = await attach(network, config, { data: { batches: [rows], forward: () => network.forward(rows) } });
    const ranks = ['fc1', 'fc2', 'fc3'].map((path) => new Map(set.namedParameters()).get(`${path}.lora_A.weight`)?.shape[0]);
    t.log('ranks', ranks.join(' '));
    t.true(ranks[0] === 10 || ranks[0] === 11);
    t.true(ranks[1] === 8 || ranks[1] === 9);
    t.is(ranks[2], 5);
    set.dispose();
  }
  disposeTasks(tasks);
  for (const x of [rows, ...networks]) x.dispose();
});
