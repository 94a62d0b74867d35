import type { AdapterSet } from '#dist/adapters/index.js';
import { add, mul } from '#dist/ops/elementwise.js';
import { copyInto } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import { noise } from './tiny-network.js';

/** Moves every parameter away from where it starts. */
export function perturb(set: Pick<AdapterSet, 'parameters'>, size = 0.3): void {
  scope(() =>
    noGrad(() => {
      for (const [i, value] of set.parameters().entries()) {
        copyInto(value, add(value, mul(noise(value.shape, 100 + i, value.dtype), size)));
      }
    }),
  );
}
