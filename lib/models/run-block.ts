import { checkpoint } from '../gradient.js';
import type { ForwardContext } from '../nn/context.js';
import type { Layer } from '../nn/module.js';
import { prefixTensors, withPrefixTensors } from '../nn/prefix.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

/** One block of a stack: what it makes on the way goes when it has run, and with checkpointing is made again in backward. */
export function runBlock(block: Layer, x: Tensor, context: ForwardContext): Tensor {
  const y = scope(() => (context.checkpointing ? recomputed(block, x, context) : block.forward(x, context)));
  context.hidden?.take(y, context.keyLengths);
  return y;
}

/** A block that keeps nothing but its input for backward. What the context holds goes in as inputs too, since backward may come when its scope has ended. */
function recomputed(block: Layer, x: Tensor, context: ForwardContext): Tensor {
  const { rotary, positions, keyLengths, documents, prefix } = context;
  const held = Object.entries({ cos: rotary?.cos, sin: rotary?.sin, places: rotary?.positions, positions, keyLengths, documents });
  const front = prefix === undefined ? [] : prefixTensors(prefix);
  const named = held.filter((entry): entry is [string, Tensor] => entry[1] !== undefined);
  return checkpoint(
    (input, ...tensors) => {
      const { cos, sin, places, ...own } = Object.fromEntries(named.map(([name], i) => [name, tensors[i]])) as Record<string, Tensor>;
      const tables = cos && sin && places && { rotary: { cos, sin, positions: places } };
      const ahead = prefix && { prefix: withPrefixTensors(prefix, tensors.slice(named.length)) };
      return block.forward(input as Tensor, { ...context, ...own, ...tables, ...ahead });
    },
    [x, ...named.map(([, tensor]) => tensor), ...front],
  );
}
