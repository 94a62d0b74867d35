import { InvalidArgumentError } from '../errors.js';
import type { PackedWeight } from '../ops/linalg.js';
import { narrow } from '../ops/shape.js';
import { Tensor } from '../tensor.js';

/** Throws for a weight that stays in blocks and was asked to be trained. */
export function refuseTraining(layer: string, { quantization, shape }: PackedWeight): never {
  throw new InvalidArgumentError(
    `${layer}: quantised weights cannot be trained; got a weight [${shape.join(', ')}] in ${quantization}, expected a model loaded with dtype bf16 or f32`,
  );
}

/** A weight as a dense tensor; of a packed one, a copy for the enclosing scope. */
export function dense(weight: Tensor | PackedWeight): Tensor {
  return weight instanceof Tensor ? weight : weight.unpack();
}

/** Calls `body` with the rows of a weight [N, K] in parts of at most `count`; of one in blocks, only these are made dense. */
export function* rowParts(weight: Tensor | PackedWeight, count: number): Iterable<() => Tensor> {
  const rows = weight.shape[0] ?? 0;
  const blocks = weight instanceof Tensor || (weight.layout !== 'blocks' && weight.layout !== 'codes') ? undefined : weight;
  const whole = blocks === undefined ? dense(weight) : undefined;
  for (let start = 0; start < rows; start += count) {
    const size = Math.min(count, rows - start);
    yield () => (whole === undefined ? (blocks as PackedWeight).rows(start, size) : narrow(whole, 0, start, size));
  }
}
