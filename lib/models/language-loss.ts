import { InvalidArgumentError, ShapeError } from '../errors.js';
import type { ForwardContext } from '../nn/context.js';
import { Linear } from '../nn/linear.js';
import { tensor } from '../ops/create.js';
import { cast } from '../ops/elementwise.js';
import { crossEntropy, logitsCrossEntropy, type Reduction } from '../ops/loss.js';
import type { Tensor } from '../tensor.js';
import type { TokenRows } from './batch.js';
import type { CausalLanguageModel } from './causal-language-model.js';

/** A target that is not to be learnt. */
export const ignoredTarget = -100;

/** The token after each token of a row, none after the last and none across documents. */
export function nextTokens(rows: TokenRows, documents?: TokenRows): number[][] {
  return rows.map((row, b) =>
    row.map((_, t) => {
      const next = row[t + 1];
      const own = documents?.[b];
      return next === undefined || (own !== undefined && own[t] !== own[t + 1]) ? ignoredTarget : next;
    }),
  );
}

/** Targets as i64 [B, T], padded like the rows they belong to. Throws for other shapes, for ids outside the vocabulary, and for a mean over nothing. */
export function targetTensor(targets: TokenRows, batch: number, width: number, vocabularySize: number, reduction: Reduction): Tensor {
  if (targets.length !== batch)
    throw new ShapeError(`loss: "targets" must have a row for each row of ids; got ${targets.length}, expected ${batch}`);
  const values = new Float64Array(batch * width).fill(ignoredTarget);
  let learnt = false;
  for (const [b, row] of targets.entries()) {
    if (row.length > width)
      throw new ShapeError(`loss: row ${b} of "targets" is longer than its ids; got ${row.length}, expected at most ${width}`);
    const t = row.findIndex((id) => id !== ignoredTarget && (!Number.isInteger(id) || id < 0 || id >= vocabularySize));
    if (t >= 0) {
      throw new InvalidArgumentError(
        `loss: target ${t} of row ${b} is not in the vocabulary; got ${row[t]}, expected an integer from 0 to ${vocabularySize - 1}, or ${ignoredTarget}`,
      );
    }
    values.set(row, b * width);
    learnt ||= row.some((id) => id !== ignoredTarget);
  }
  if (!learnt && reduction === 'mean')
    throw new InvalidArgumentError('loss: there is no target to learn; expected at least one that is not -100');
  return tensor(values, { shape: [batch, width], dtype: 'i64' });
}

/** Cross-entropy of hidden states [B, T, D] against targets [B, T]: straight from the hidden states where the head is a plain linear layer, without storing logits. */
export function languageLoss(
  network: CausalLanguageModel,
  hidden: Tensor,
  targets: Tensor,
  context: ForwardContext,
  reduction: Reduction,
): Tensor {
  const head = network.lm_head.effective(context);
  if (head instanceof Linear) return crossEntropy(hidden, head.weight, targets, { reduction, ...(head.bias && { bias: head.bias }) });
  // Logits in f32 whatever the model computes in, as they are inside crossEntropy.
  const wide = hidden.dtype === 'bf16' || hidden.dtype === 'f16' ? cast(hidden, 'f32') : hidden;
  return logitsCrossEntropy(network.head(wide, context), targets, { reduction });
}
