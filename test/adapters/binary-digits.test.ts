// One bit a weight learns: a short form of the experiment of bench/methods/binary.ts.
import test from 'ava';
import { attach } from 'lorikeet';
import { adaptVit, disposeDigitsTasks, freshHead, pretrainedVit, readDigitsTasks } from '../helpers/digits-vit.js';
import { dataFolder } from '../helpers/folders.js';

test('an adapter of one bit a weight fits better than a head alone, and than f32 in the same bytes', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const tasks = readDigitsTasks(folder, 1);
  const network = pretrainedVit(1, tasks.old, { steps: 150 });
  const lossOf = async (config?: { bits: 1 | 32; dim: number }): Promise<number> => {
    const set = config && (await attach(network, { type: 'binary', scale: 10, dropout: 0, ...config }, { seed: 1 }));
    const head = freshHead(network, 1);
    const parameters = [...(set?.parameters() ?? []), ...head.trainableParameters()];
    const losses = adaptVit(network, tasks.few, { parameters, steps: 100, learningRate: 5e-3, weightDecay: 1e-4, seed: 1 });
    set?.dispose();
    return losses.slice(-20).reduce((sum, loss) => sum + loss / 20, 0);
  };
  const [head, binary, plain] = [await lossOf(), await lossOf({ bits: 1, dim: 32 }), await lossOf({ bits: 32, dim: 1 })];
  t.log(`head ${head.toFixed(3)}, one bit ${binary.toFixed(3)}, f32 ${plain.toFixed(3)}`);
  t.true(binary < 0.9 * head);
  t.true(binary < plain);
  network.dispose();
  disposeDigitsTasks(tasks);
});
