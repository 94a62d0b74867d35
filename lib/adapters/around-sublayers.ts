import { AdapterError } from '../errors.js';
import { type ForwardContext, inference } from '../nn/context.js';
import type { SublayerCall } from '../nn/sublayer.js';
import { narrow } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import type { AdapterModule } from './adapter.js';
import { type Run, routeRows } from './row-routing.js';

const goesAround = (module: AdapterModule): boolean => module.sublayer !== undefined;

/** One module around the other, in their order, around a sub-layer. */
function chain(modules: readonly AdapterModule[], call: SublayerCall): Tensor {
  let { next } = call;
  for (const module of modules) {
    const below = next;
    next = (input) => module.sublayer?.({ ...call, input, next: below }) ?? below(input);
  }
  return next(call.input);
}

/** The context in which a block lets these modules around its sub-layers. */
export function aroundSublayers(context: ForwardContext | undefined, modules: readonly AdapterModule[]): ForwardContext | undefined {
  const around = modules.filter(goesAround);
  return around.length === 0 ? context : { ...(context ?? inference), sublayers: (call) => chain(around, call) };
}

/** The same for a batch whose rows have different adapters: the sub-layer sees the whole batch, the modules around it their rows. */
export function aroundSublayersByRow(context: ForwardContext | undefined, runs: readonly Run[]): ForwardContext | undefined {
  if (!runs.some(({ adapters }) => adapters.some(goesAround))) return context;
  return { ...(context ?? inference), sublayers: (call) => routed(call, runs) };
}

function routed(call: SublayerCall, runs: readonly Run[]): Tensor {
  const y = call.next(call.input);
  return routeRows(call.input, runs, {
    isPlain: () => false,
    together: () => y,
    alone: (input, modules, start) => {
      const own = (whole: Tensor): Tensor => (whole === call.input ? input : narrow(whole, 0, start, input.shape[0] ?? 0));
      const below = own(y);
      const { training, keyLengths } = call.context;
      const lengths = keyLengths && narrow(keyLengths, 0, start, input.shape[0] ?? 0);
      const next = (changed: Tensor): Tensor => {
        if (changed !== input)
          throw new AdapterError('adapters by row: an adapter around a sub-layer cannot change what it reads for some rows alone');
        return below;
      };
      return chain(modules.filter(goesAround), {
        ...call,
        residual: own(call.residual),
        input,
        context: { training, ...(lengths && { keyLengths: lengths }) },
        next,
      });
    },
  });
}
