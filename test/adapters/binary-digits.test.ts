// Branches of one bit a weight on the DIGITS-MLP experiment; bench/methods/binary.ts has the bottlenecks on a vision transformer.
import test from 'ava';
import type { BinaryBits } from '#dist/adapters/index.js';
import { curve, disposeTasks, kLayers, pretrained, readTasks } from '../helpers/digits.js';
import { dataFolder } from '../helpers/folders.js';

test('a wide branch of one bit a weight learns more than a narrow one of f32 in the same bytes, and about as much with more bits', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const tasks = readTasks(folder);
  const network = pretrained(1, tasks.old);
  const lossOf = async (bits: BinaryBits, dim: number): Promise<number> => {
    const adapter = { type: 'binary', adapter: 'lora', targets: [...kLayers], scale: 1, dropout: 0, bits, dim } as const;
    return (await curve(network, tasks.fresh, { adapter, learningRate: 1e-3 }, 60, 1)).at(-1) as number;
  };
  const found = { wide: await lossOf(1, 32), narrow: await lossOf(32, 1), plain: await lossOf(32, 8), four: await lossOf(4, 8) };
  t.log(found);
  t.true(found.wide < found.narrow);
  t.true(found.four < 1.5 * found.plain + 0.05);
  network.dispose();
  disposeTasks(tasks);
});
