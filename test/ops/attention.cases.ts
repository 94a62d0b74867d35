import type { Tensor } from 'lorikeet';
import { attention } from 'lorikeet/ops';
import { attentionReference } from '../helpers/attention-reference.js';
import type { Dense, OpCase } from '../helpers/battery.js';

const covers = ['attention'];
const operands = (T: number, S: number, H: number, G: number, K: number) => [
  { shape: [2, T, H, K] },
  { shape: [2, S, G, K] },
  { shape: [2, S, G, K] },
];
const whole = (limit: number) => (_: number, random: () => number) => Math.floor(random() * limit);

export const cases: OpCase[] = [
  {
    name: 'attention to all keys',
    covers,
    inputs: operands(3, 6, 4, 2, 5),
    run: (q, k, v) => attention(q, k, v),
    reference: (q, k, v) => attentionReference(q, k, v),
  },
  {
    name: 'causal attention over several blocks',
    covers,
    inputs: operands(3, 130, 1, 1, 1),
    run: (q, k, v) => attention(q, k, v, { causal: true, window: 100, scale: 0.5, softcap: 3 }),
    reference: (q, k, v) => attentionReference(q, k, v, { causal: true, window: 100, scale: 0.5, softcap: 3 }),
  },
  {
    name: 'attention with lengths and offsets',
    covers,
    inputs: [...operands(2, 7, 3, 3, 4), { shape: [2], dtype: 'i64', values: whole(8) }, { shape: [2], dtype: 'i64', values: whole(6) }],
    run: (q, k, v, keyLengths, queryOffset) =>
      attention(q, k, v, { causal: true, keyLengths: keyLengths as Tensor, queryOffset: queryOffset as Tensor }),
    reference: (q, k, v, lengths, offsets) =>
      attentionReference(q, k, v, { causal: true, keyLengths: (lengths as Dense).data, queryOffset: (offsets as Dense).data }),
  },
  {
    name: 'attention with a key mask and documents',
    covers,
    inputs: [
      ...operands(6, 6, 2, 1, 3),
      { shape: [2, 6], dtype: 'bool', values: (_, random) => (random() < 0.7 ? 1 : 0) },
      { shape: [2, 6], dtype: 'i32', values: whole(2) },
    ],
    run: (q, k, v, keyMask, documents) => attention(q, k, v, { keyMask: keyMask as Tensor, documents: documents as Tensor }),
    reference: (q, k, v, mask, documents) =>
      attentionReference(q, k, v, { keyMask: (mask as Dense).data, documents: (documents as Dense).data }),
  },
];
