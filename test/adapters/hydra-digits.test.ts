// Hydra on the DIGITS-VIT experiment, cut short; `npm run bench -- methods --experiments hydra` runs it in full.
import test from 'ava';
import { attach } from '#dist/adapters/index.js';
import { adaptVit, disposeDigitsTasks, evaluateVit, freshHead, pretrainedVit, readDigitsTasks } from '../helpers/digits-vit.js';
import { dataFolder } from '../helpers/folders.js';

const steps = 80;

test.serial('a ViT learns new digits through Hydra faster than through its head, and merged weights know them as well', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const tasks = readDigitsTasks(folder, 1);
  const network = pretrainedVit(1, tasks.old, { steps: 300 });
  const alone = freshHead(network, 1);
  adaptVit(network, tasks.few, { parameters: alone.trainableParameters(), steps, seed: 1 });
  const probe = evaluateVit(network, tasks.few);
  const set = await attach(network, { type: 'hydra', rankParallel: 2, rankSequential: 2 }, { seed: 1 });
  const numbers = set.parameters().reduce((sum, { size }) => sum + size, 0);
  // 3 blocks: 48 → 48 with 484 numbers, 192 → 48 with 772.
  t.is(numbers, 3 * (484 + 772));
  const head = freshHead(network, 1);
  adaptVit(network, tasks.few, { parameters: [...set.parameters(), ...head.trainableParameters()], steps, seed: 1 });
  const [seen, held] = [evaluateVit(network, tasks.few), evaluateVit(network, tasks.rest)];
  t.log(`training loss ${seen.loss.toFixed(3)}, of the head alone ${probe.loss.toFixed(3)}`);
  t.true(seen.loss < 0.8 * probe.loss);
  await set.merge();
  t.is(evaluateVit(network, tasks.rest).accuracy, held.accuracy);
  set.unmerge();
  t.deepEqual(evaluateVit(network, tasks.rest), held);
  set.dispose();
  network.dispose();
  disposeDigitsTasks(tasks);
});
