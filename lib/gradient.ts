import { native } from './native.js';
import { zeros } from './ops/create.js';
import { loggingDraws, replayingDraws } from './random.js';
import { disposeTensors, keep, noGrad, scope, withGrad } from './scope.js';
import { Tensor } from './tensor.js';

/**
 * An op written in TypeScript with its own backward, for experiments. `forward` runs unrecorded; `backward` gets the gradients of the outputs and which inputs
 * want one, and returns one gradient (or undefined) per input.
 */
export function customGrad(
  inputs: readonly Tensor[],
  forward: (...inputs: Tensor[]) => Tensor | Tensor[],
  backward: (gradients: readonly Tensor[], wanted: readonly boolean[]) => readonly (Tensor | undefined)[],
): Tensor[] {
  const outputs = noGrad(() => {
    const result = forward(...inputs.map((input) => input.detach()));
    return Array.isArray(result) ? result : [result];
  });
  native.recordCustom(
    'customGrad',
    inputs.map((input) => input.handle),
    outputs.map((output) => output.handle),
    (gradients, wanted) =>
      backward(
        gradients.map((handle) => new Tensor(handle)),
        wanted,
      ).map((gradient) => gradient?.handle),
  );
  return outputs;
}

let recomputing = 0;

/** Whether `checkpoint` runs something for the second time, which then must not count again what it counted the first time. */
export const isRecomputing = (): boolean => recomputing > 0;

function recompute<T>(fn: () => T): T {
  recomputing++;
  try {
    return fn();
  } finally {
    recomputing--;
  }
}

/**
 * Recompute checkpointing: runs `fn` without keeping anything for backward, and runs it again, recorded, when backward comes by. Trades a second forward
 * for the memory of everything inside. `inputs` are the tensors `fn` gets; parameters it uses from outside collect their gradients as usual. `fn` must be
 * synchronous and compute the same both times; random ops replay their counters (`replay` restores other state the caller keeps).
 */
export function checkpoint(fn: (...inputs: Tensor[]) => Tensor, inputs: readonly Tensor[], replay?: () => () => void): Tensor {
  const restore = replay?.();
  // The recompute needs the inputs after their handles may be gone.
  const kept = inputs.map((input) => keep(input.detach()));
  const marks = inputs.map((input) => input.requiresGrad);
  // Parameters inside may want a gradient where no input does: a leaf of its own gets the block recorded in any case.
  const anchor = zeros([]).setRequiresGrad(true);
  let draws: readonly number[] = [];
  const [output] = customGrad(
    [...inputs, anchor],
    // In a scope of its own: nothing inside waits for the end of the caller's.
    (...own) =>
      scope(() => {
        const first = loggingDraws(() => fn(...own.slice(0, -1)));
        draws = first.draws;
        return first.result;
      }),
    ([gradient]) =>
      scope(() => {
        restore?.();
        const leaves = kept.map((input, i) => input.detach().setRequiresGrad(marks[i] ?? false));
        const again = recompute(() => withGrad(() => replayingDraws(draws, () => fn(...leaves))));
        if (again.requiresGrad) again.backward(gradient);
        for (const input of kept) input.dispose();
        return [...leaves.map((leaf) => (leaf.requiresGrad ? leaf.grad : undefined)), undefined];
      }),
  );
  anchor.dispose();
  if (output?.requiresGrad !== true) disposeTensors(kept);
  return output as Tensor;
}
