import { AdapterError } from '../errors.js';
import { mul } from '../ops/elementwise.js';
import type { Tensor } from '../tensor.js';
import type { AdapterForm, CommonConfig, MergeDetails, Placement, PortableAdapter } from './adapter.js';
import { tensorsOf } from './adapter-table.js';
import { lora } from './lora.js';
import { plainLoraConfig } from './lora-config.js';
import type { PolyConfig } from './poly-config.js';
import { PolyLinear } from './poly-linear.js';

/**
 * With alpha 1, which PEFT takes for granted, as trained; alpha goes into B. `native` keeps it. `lora`: the averaged factors of one task as
 * plain LoRA. A branch that has not risen whole goes into B as far as it has. Throws `AdapterError` for other forms, and where the task is not named.
 */
export function portablePoly(
  config: PolyConfig,
  placements: readonly Placement[],
  form: AdapterForm,
  { task }: MergeDetails = {},
): PortableAdapter<CommonConfig> {
  if (form === 'lora') return plainLora(config, placements, task);
  if (form !== 'published' && form !== 'native')
    throw new AdapterError(`save: an adapter of "poly" has no form "${form}"; expected "published", "native" or "lora"`);
  const { alpha } = config;
  const folds = form === 'published' && alpha !== 1;
  return {
    config: folds ? { ...config, alpha: 1 } : config,
    tensors: named(placements, (end, value, { warmth }) => {
      const factor = (folds ? alpha : 1) * warmth;
      return end === 'poly_lora_B' && factor !== 1 ? mul(value, factor) : value;
    }),
  };
}

const named = (placements: readonly Placement[], change: (end: string, value: Tensor, module: PolyLinear) => Tensor): [string, Tensor][] =>
  placements.flatMap(({ path, module }) =>
    tensorsOf(module).map(([end, value]): [string, Tensor] => [
      `${path}.${end}`,
      module instanceof PolyLinear ? change(end, value, module) : value,
    ]),
  );

function plainLora(config: PolyConfig, placements: readonly Placement[], task: MergeDetails['task']): PortableAdapter<CommonConfig> {
  if (task === undefined && config.tasks > 1)
    throw new AdapterError(
      `save: form "lora" holds one task of ${config.tasks}; got no task, expected task: 0 to ${config.tasks - 1}, or "mean"`,
    );
  const { rank, alpha } = config;
  return {
    method: lora,
    config: plainLoraConfig(config, { rank, alpha }),
    tensors: placements.flatMap((placement): [string, Tensor][] => {
      const { path, module } = placement;
      if (!(module instanceof PolyLinear)) return named([placement], (_, value) => value);
      const { a, b } = module.factors(task ?? 0);
      return [
        [`${path}.lora_A.weight`, a],
        [`${path}.lora_B.weight`, module.warmth === 1 ? b : mul(b, module.warmth)],
      ];
    }),
  };
}
