// The experiment that other methods build on: pretraining in seconds, and what a new head alone reaches.
import test from 'ava';
import { memory } from 'lorikeet';
import { adaptVit, disposeDigitsTasks, evaluateVit, freshHead, pretrainedVit, readDigitsTasks } from '../helpers/digits-vit.js';
import { dataFolder } from '../helpers/folders.js';

test.serial('a small ViT learns digits, and a linear probe of it learns others less well', (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const tasks = readDigitsTasks(folder, 1);
  t.is(tasks.few.rows, 100);
  t.is(tasks.old.rows + tasks.few.rows + tasks.rest.rows, 1797);
  const network = pretrainedVit(1, tasks.old);
  const known = evaluateVit(network, tasks.old);
  t.log('old', known);
  t.true(known.accuracy > 0.92);
  const head = freshHead(network, 1);
  t.true(evaluateVit(network, tasks.rest).accuracy < 0.5);
  adaptVit(network, tasks.few, { parameters: head.trainableParameters(), steps: 400, seed: 1 });
  const probe = evaluateVit(network, tasks.rest);
  t.log('probe', probe);
  t.true(probe.accuracy > 0.4 && probe.accuracy < 0.8);
  network.dispose();
  disposeDigitsTasks(tasks);
  t.is(memory().tensors, 0);
});
