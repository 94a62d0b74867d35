import type { TokenInput } from '../data/encoder-input.js';
import { philox } from '../data/shuffle.js';
import { ConfigError } from '../errors.js';
import { ignoredTarget } from '../models/language-loss.js';
import { noGrad, scope } from '../scope.js';
import type { TaskModel } from '../task-model.js';
import { countTokens, type EncoderRow, eachBatch, measured, openEncoderRows, routesOf, trialBatch } from './encoder-rows.js';
import type { BatchPlace, Task } from './task.js';

/** Part of the tokens that are to be found again; of these the parts that become the mask, and another token. The rest stays as it is. */
const kChosen = 0.15;
const kMasked = 0.8;
const kReplaced = 0.1;
/** Streams from here on belong to masks, one a step. */
const kMaskStream = 1n << 41n;

/**
 * Words that are hidden in a text, as in "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding": 15 % of the tokens of every row, at
 * least one. Which they are is a function of seed, step and place of the row; an evaluation hides the same ones every time. Cross-entropy, which decides; perplexity.
 */
export function maskedLm(model: TaskModel): Task<EncoderRow<undefined>> {
  const hide = hiderOf(model);
  return {
    name: 'masked-lm',
    decides: { name: 'loss', higher: false },
    open: (sources, options) =>
      openEncoderRows(model, sources, options, () => (_, input) => {
        const hasWords = (input as TokenInput).words.some((word) => word >= 0);
        return { target: undefined, ...(hasWords ? {} : { empty: 'got no words' }) };
      }),
    batch(rows, place) {
      const hidden = rows.map(({ input }, index) => hide(input as TokenInput, place, index));
      return {
        targets: hidden.reduce((sum, { count }) => sum + count, 0),
        tokens: countTokens(model, rows),
        loss: (pass) =>
          model.loss({
            ...inputOf(hidden),
            ...routesOf(rows),
            targets: hidden.map(({ targets }) => targets),
            reduction: 'sum',
            ...pass,
          }),
      };
    },
    async measure(set, options = {}) {
      const found: number[][] = [];
      await eachBatch(model, set, options, async (rows, places) => {
        const hidden = rows.map(({ input }, index) => hide(input as TokenInput, { seed: 0, step: 0, first: places[index] as number }, 0));
        const targets = hidden.map((row) => row.targets);
        const [values, width] = await scope(async () => {
          const losses = noGrad(() => model.loss({ ...inputOf(hidden), ...routesOf(rows), targets, reduction: 'none', training: false }));
          return [await losses.data(), losses.shape[1] ?? 0] as const;
        });
        for (const [index, row] of targets.entries()) {
          const learnt = [...row.keys()].filter((t) => row[t] !== ignoredTarget);
          found[places[index] as number] = learnt.map((t) => Number(values[index * width + t]));
        }
      });
      const rows = Object.values(found);
      const losses = rows.flat();
      return measured(set, losses, rows.length, () => ({ perplexity: Math.exp(losses.reduce((a, b) => a + b, 0) / losses.length) }));
    },
    trial: (shape) =>
      trialBatch(
        model,
        shape,
        Array.from({ length: shape.rows }, () => new Array<number>(shape.length).fill(0)),
      ),
  };
}

/** A row with hidden words. */
interface Hidden {
  readonly ids: readonly number[];
  readonly tokenTypes: readonly number[] | undefined;
  readonly targets: readonly number[];
  readonly count: number;
}

function inputOf(rows: readonly Hidden[]) {
  const ids = rows.map((row) => row.ids);
  if (rows.every(({ tokenTypes }) => tokenTypes === undefined)) return { ids };
  return { ids, tokenTypes: rows.map((row) => row.tokenTypes ?? row.ids.map(() => 0)) };
}

/** A function that hides words of the row at `place`, counted on by `index`. Throws `ConfigError` for a tokenizer without a mask. */
function hiderOf({ tokenizer, hasTokenizer, network, source }: TaskModel) {
  const vocabulary = Math.min(network.shape.vocabularySize ?? 0, hasTokenizer ? tokenizer.vocabSize : 0);
  return (input: TokenInput, { seed, step, first }: BatchPlace, index: number): Hidden => {
    const mask = tokenizer.maskId;
    if (mask === undefined) throw new ConfigError(`masked-lm: the tokenizer of ${source} has no mask token`);
    const stream = kMaskStream + BigInt(step);
    const draws = (t: number) => philox(BigInt(seed), stream, (BigInt(first + index) << 20n) + BigInt(t)).map((word) => word / 2 ** 32);
    const drawn = input.words.map((word, t) => (word < 0 ? undefined : draws(t)));
    const least = Math.min(...drawn.flatMap((own) => own?.[0] ?? []));
    const targets = input.ids.map(() => ignoredTarget);
    const ids = [...input.ids];
    for (const [t, own] of drawn.entries()) {
      const [choice = 1, change = 1, other = 0] = own ?? [];
      if (own === undefined || (choice >= kChosen && choice !== least)) continue;
      targets[t] = input.ids[t] as number;
      if (change < kMasked) ids[t] = mask;
      else if (change < kMasked + kReplaced) ids[t] = Math.floor(other * vocabulary);
    }
    return { ids, tokenTypes: input.tokenTypes, targets, count: targets.filter((target) => target !== ignoredTarget).length };
  };
}
