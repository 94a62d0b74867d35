import { narrow } from '../ops/shape.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

/** Waits until tensors hold their values; rejects with the error of the work that failed. */
export async function computed(tensors: Iterable<Tensor>): Promise<void> {
  for (const tensor of tensors) {
    if (tensor.size === 0) continue;
    await scope(() => tensor.shape.reduce((head, _, dim) => narrow(head, dim, 0, 1), tensor.detach()).data());
  }
}
