import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { restoreState, saveState, scope, type TunedModel } from 'lorikeet';
import { Adafactor, AdamW } from 'lorikeet/optim';
import { temporaryFolder } from '../helpers/command-line.js';
import { withTuned } from '../helpers/shipped.js';

const ids = [[1, 403, 407, 261, 378, 432, 383, 286]];

async function loop(tuned: TunedModel, optimizer: AdamW | Adafactor, steps: number): Promise<number[]> {
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    losses.push(
      await scope(() => {
        const loss = tuned.loss({ ids, training: true });
        loss.backward();
        optimizer.step();
        optimizer.zeroGrad();
        return loss.item();
      }),
    );
  }
  return losses;
}

const optimizers = {
  AdamW: (tuned: TunedModel) => new AdamW(tuned.parameters(), { learningRate: 1e-2 }),
  Adafactor: (tuned: TunedModel) => new Adafactor(tuned.parameters(), { learningRate: 1e-2, beta1: 0.9, scaleParameter: true }),
};

for (const [name, make] of Object.entries(optimizers)) {
  test(`a loop of one's own goes on with the same bits from a saved state: ${name}`, async (t) => {
    const folder = join(temporaryFolder(), 'state');
    const straight = await withTuned(
      async (tuned) => {
        const optimizer = make(tuned);
        await loop(tuned, optimizer, 3);
        await saveState(folder, { model: tuned, optimizer }, { step: 3 });
        return loop(tuned, optimizer, 3);
      },
      { dropout: 0.3 },
    );
    const resumed = await withTuned(
      async (tuned) => {
        const optimizer = make(tuned);
        t.deepEqual(await restoreState(folder, { model: tuned, optimizer }), { step: 3 });
        return loop(tuned, optimizer, 3);
      },
      { dropout: 0.3 },
    );
    t.deepEqual(resumed, straight);
  });
}

/** Flips one bit of every file in turn, then cuts each, then removes it. */
async function damagesAreFound(t: ExecutionContext, folder: string, restore: () => Promise<unknown>): Promise<void> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => statSync(join(folder, name)).isFile());
  t.true(names.length >= 5, names.join());
  for (const name of names) {
    const path = join(folder, name);
    const good = readFileSync(path);
    // Within the last digits of numbers, or of a text: still valid JSON and safetensors.
    const flipped = Buffer.from(good);
    const place = name === 'state.json' ? good.indexOf('"draws": ') + 9 : good.length - 3;
    flipped[place] = (flipped[place] as number) ^ 1;
    for (const bad of [flipped, good.subarray(0, -2)]) {
      writeFileSync(path, bad);
      await t.throwsAsync(
        restore(),
        { code: 'format', message: new RegExp(`${name.replaceAll('.', '\\.')}: (damaged|is not valid JSON)`) },
        name,
      );
    }
    rmSync(path);
    await t.throwsAsync(restore(), { code: 'format' }, name);
    writeFileSync(path, good);
  }
  await t.notThrowsAsync(restore());
}

test('a state of another shape, or a broken one, is refused', async (t) => {
  const folder = join(temporaryFolder(), 'state');
  await withTuned(async (tuned) => {
    const optimizer = new AdamW(tuned.parameters(), { learningRate: 1e-2 });
    await saveState(folder, { model: tuned, optimizer });
    const file = join(folder, 'state.json');
    const good = readFileSync(file, 'utf8');
    writeFileSync(file, good.slice(0, good.length / 2));
    await t.throwsAsync(restoreState(folder, { model: tuned, optimizer }), { code: 'format', message: /state\.json/ });
    writeFileSync(file, good.replace('"format": 2', '"format": 9'));
    await t.throwsAsync(restoreState(folder, { model: tuned, optimizer }), { message: /unknown format of checkpoint; got 9/ });
    writeFileSync(file, good);
    await damagesAreFound(t, folder, () => restoreState(folder, { model: tuned, optimizer }));
    await t.throwsAsync(restoreState(join(folder, 'none'), { model: tuned, optimizer }), { code: 'format' });
  });
});
