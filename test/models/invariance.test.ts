import test from 'ava';
import { loadModel, type Model, memory, noGrad, scope, type Tensor } from 'lorikeet';
import { Layer } from 'lorikeet/nn';
import { mul, narrow, sum, tensor } from 'lorikeet/ops';
import { goldenModel } from '../helpers/folders.js';
import { numbers } from '../helpers/numbers.js';

// One of each: grouped heads and a tied head; biases; a window; norms on heads; rotary tables by row length.
const models = ['llama-gqa-tied', 'llama-biases-untied', 'mistral-sliding', 'qwen3-head-dim', 'llama-rope-dynamic', 'llama-bf16'];

const vocabulary = 97;
const row = [5, 17, 60, 3, 88, 41, 9, 23, 71];
/** Other rows of the batch: some longer, some shorter than the row in question. */
const others = [1, 4, 9, 12, 7, 2].map((length, i) => Array.from({ length }, (_, t) => (7 + 13 * i + 5 * t) % vocabulary));

/** The row alone, first and last of seven. */
const placings = [
  { rows: [row], at: 0 },
  { rows: [row, ...others], at: 0 },
  { rows: [...others.slice(0, 3), row, ...others.slice(3)], at: 3 },
];

/** Logits of the tokens of one row of a padded batch. */
async function logitsAt(model: Model, rows: number[][], at: number): Promise<number[]> {
  return scope(() =>
    noGrad(() => {
      const logits = model.head(model.forward(rows));
      return numbers(narrow(narrow(logits, 0, at, 1), 1, 0, rows[at]?.length ?? 0));
    }),
  );
}

/** Stands in for the embedding with a leaf that collects the gradient of the input. */
class Fixed extends Layer {
  readonly #x: Tensor;

  constructor(x: Tensor) {
    super();
    this.#x = x;
  }

  override forward(): Tensor {
    return this.#x;
  }
}

for (const name of models) {
  test.serial(`${name}: logits of a row have the same bits alone, in a batch of 7 and at another place`, async (t) => {
    using model = await loadModel(goldenModel(name));
    const [alone, ...batched] = await Promise.all(placings.map(({ rows, at }) => logitsAt(model, rows, at)));
    for (const logits of batched) t.deepEqual(logits, alone);
  });

  test.serial(`${name}: so do those of cached steps`, async (t) => {
    using model = await loadModel(goldenModel(name));
    const results: number[][] = [];
    for (const { rows, at } of placings) {
      using cache = model.cache(rows.length, 24);
      const got: number[] = [];
      const steps = [rows, ...[31, 64, 2].map((id) => rows.map((_, b) => [b === at ? id : (id + b) % vocabulary]))];
      for (const step of steps) {
        const logits = await scope(() =>
          noGrad(() => {
            const hidden = model.forward(step, { cache });
            return numbers(model.head(narrow(narrow(hidden, 0, at, 1), 1, (step[at]?.length ?? 0) - 1, 1)));
          }),
        );
        got.push(...logits);
      }
      results.push(got);
    }
    for (const result of results) t.deepEqual(result, results[0]);
  });

  test.serial(`${name}: so does the gradient of the row's input`, async (t) => {
    using model = await loadModel(goldenModel(name));
    const embedding = model.module('model.embed_tokens') as Layer;
    const results: number[][] = [];
    for (const { rows, at } of placings) {
      const gradient = await scope(() => {
        const width = Math.max(...rows.map((ids) => ids.length));
        const padded = rows.flatMap((ids) => [...ids, ...new Array<number>(width - ids.length).fill(0)]);
        const x = embedding
          .forward(tensor(BigInt64Array.from(padded, BigInt), { shape: [rows.length, width] }))
          .detach()
          .setRequiresGrad(true);
        model.network.setModule('model.embed_tokens', new Fixed(x));
        const logits = narrow(model.head(model.forward(rows)), 0, at, 1);
        const weights = tensor(
          Float32Array.from({ length: width * vocabulary }, (_, i) => (i < (rows[at]?.length ?? 0) * vocabulary ? Math.sin(i) : 0)),
          { shape: [1, width, vocabulary], dtype: logits.dtype },
        );
        sum(mul(logits, weights)).backward();
        return numbers(narrow(narrow(x.grad as Tensor, 0, at, 1), 1, 0, rows[at]?.length ?? 0));
      });
      results.push(gradient);
    }
    model.network.setModule('model.embed_tokens', embedding);
    t.true(results[0]?.some((value) => value !== 0));
    for (const result of results) t.deepEqual(result, results[0]);
  });
}

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
