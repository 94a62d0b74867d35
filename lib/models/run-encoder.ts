import type { ForwardContext } from '../nn/context.js';
import { EncoderFront } from '../nn/inner-prompts.js';
import type { Layer } from '../nn/module.js';
import { Front, type TokenNetwork } from '../nn/virtual-tokens.js';
import type { Tensor } from '../tensor.js';
import { runBlock } from './run-block.js';

/**
 * The blocks of an encoder on embeddings [B, T, D], with the virtual tokens of `network`: what its head reads, [B, T', D]. Where the context has those of the pass,
 * their embeddings are among the T.
 */
export function runEncoder(network: TokenNetwork, blocks: Iterable<Layer>, embedded: Tensor, context: ForwardContext): Tensor {
  const [batch = 0, length = 0] = embedded.shape;
  const found = context.front ?? Front.of(network, context, batch);
  const front = new EncoderFront(network, found);
  const keyLengths = found?.lengths(context.keyLengths, length - found.width) ?? context.keyLengths;
  const inner = { ...context, ...(keyLengths && { keyLengths }) };
  let hidden = embedded;
  for (const [number, block] of [...blocks].entries())
    hidden = runBlock(block, front.into(number, hidden, context.training), front.at(number, inner));
  return front.read(hidden);
}
