// Poly and MHR on many tasks at once, cut short; `npm run bench -- methods --experiments routing` runs it in full.
import test from 'ava';
import type { AdapterConfig } from '#dist/adapters/index.js';
import { dataFolder } from '../helpers/folders.js';
import { fewShot, kTrainTasks, pretrain, readSplitDigits } from '../helpers/split-digits.js';

const steps = 200;
const routed = (splits: number): AdapterConfig => ({ type: 'poly', rank: 4, tasks: kTrainTasks, skills: 8, splits, gates: 'sigmoid' });

test.serial('24 tasks that one adapter cannot tell apart are learnt by what they share', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const data = readSplitDigits(folder, 1);
  const [lora, poly, mhr] = [
    await pretrain(data, { type: 'lora', rank: 4, alpha: 1 }, { seed: 1, steps }),
    await pretrain(data, routed(1), { seed: 1, steps }),
    await pretrain(data, routed(8), { seed: 1, steps }),
  ];
  t.log(`losses: LoRA ${lora.loss.toFixed(3)}, Poly ${poly.loss.toFixed(3)}, MHR ${mhr.loss.toFixed(3)}`);
  t.true(mhr.loss < poly.loss && poly.loss < lora.loss);
  const options = { task: kTrainTasks, seed: 1, steps: 50 };
  const [untrained, z] = [await fewShot(data, mhr, 'none', options), await fewShot(data, mhr, 'z', options)];
  t.log(`a new task: ${z.accuracy.toFixed(1)} %, before ${untrained.accuracy.toFixed(1)} %`);
  t.is(z.trained, 8 * 8 * 2);
  t.true(z.accuracy > untrained.accuracy + 5);
  for (const { set, network } of [lora, poly, mhr]) {
    set.dispose();
    network.dispose();
  }
  data.images.dispose();
});
