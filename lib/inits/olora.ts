import { denseWeight } from '../adapters/trained-copy.js';
import { throwIfAborted } from '../errors.js';
import { qr } from '../linalg/qr.js';
import { concat } from '../ops/join.js';
import { matmul } from '../ops/linalg.js';
import { narrow, transpose } from '../ops/shape.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { checkFewBits, checkQuantize, type FewBits, inFewBits, type Pair, rest } from './few-bits.js';
import { requireFinite } from './finite.js';
import type { InitContext, InitMethod, Start, StartLayer } from './init.js';
import { onLayer, warnOfDropout } from './split.js';

/** Options of OLoRA. */
export interface OloraOptions {
  /** Keeps the rest of the weight in few bits. Default null: in the dtype that the weight had. */
  quantize: FewBits | null;
}

async function* start(layers: readonly StartLayer[], { quantize }: OloraOptions, context: InitContext): AsyncGenerator<Start> {
  warnOfDropout('olora', layers);
  for (const [index, each] of layers.entries()) {
    throwIfAborted(context.signal, 'olora');
    const { path, layer, rank, scale } = each;
    if (quantize !== null) checkFewBits('olora', each);
    const work = (): Omit<Start, 'path'> => {
      const weight = denseWeight(layer, context.dtype);
      const pair = leadingQr(weight, rank);
      const base = quantize === null ? ('residual' as const) : inFewBits(rest(weight, pair, scale), quantize, layer.weight.dtype);
      return { ...pair, base };
    };
    // A = Qᵀ W: a value of W that is not finite makes its whole column of A so.
    const made = await onLayer('olora', path, work, ({ a }) => requireFinite([a], 'the weight, or its part in A,'));
    context.onProgress({ done: index + 1, total: layers.length, path });
    yield { path, ...made };
  }
}

/**
 * The first R columns of Q and rows of R of the reduced QR of W [N, K]. Reflections beyond the first R columns leave both alone, so those columns are all that is
 * decomposed.
 */
function leadingQr(weight: Tensor, rank: number): Pair {
  return scope(() => {
    const { q, r } = qr(narrow(weight, 1, 0, rank));
    const inputs = weight.shape[1] ?? 0;
    return { a: inputs === rank ? r : concat([r, matmul(transpose(q), narrow(weight, 1, rank, inputs - rank))], 1), b: q };
  });
}

/**
 * Starts from the QR decomposition of the weight: B has orthonormal columns, A is the first R rows of the triangular factor; the frozen weight keeps W - s B A.
 * "OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models".
 */
export const olora = {
  name: 'olora',
  defaults: { quantize: null },
  named: (text) => (text === 'olora' ? {} : undefined),
  check: ({ quantize }) => checkQuantize('olora', quantize),
  usesData: false,
  changesBase: true,
  start,
  peft: {
    read: (text) => (text === 'olora' ? {} : undefined),
    write: () => ({ init_lora_weights: 'olora' }),
    repeatable: ({ quantize }) => quantize === null,
  },
} as const satisfies InitMethod<'olora', OloraOptions>;
