import { AdapterError } from '../errors.js';
import { zeros } from '../ops/create.js';
import type { Tensor } from '../tensor.js';
import type { AdapterForm, CommonConfig, Placement, PortableAdapter } from './adapter.js';
import { namedTensorsOf } from './adapter-table.js';
import type { HydraConfig } from './hydra-config.js';
import { type HydraChange, HydraLinear } from './hydra-linear.js';
import { lora } from './lora.js';
import { plainLoraConfig } from './lora-config.js';

/**
 * As trained, or as plain LoRA of rank rp + rs that makes the same change of the layers. Throws `AdapterError` for the forms of split
 * weights.
 */
export function portableHydra(config: HydraConfig, placements: readonly Placement[], form: AdapterForm): PortableAdapter<CommonConfig> {
  if (form === 'lora') return plainLora(config, placements);
  if (form !== 'published') throw new AdapterError(`save: an adapter of "hydra" has no form "${form}"; expected "published" or "lora"`);
  return { config, tensors: placements.flatMap(namedTensorsOf) };
}

/** The branches side by side with the scale in B; where they change the biases of the layers, B gets a bias. */
function plainLora(config: HydraConfig, placements: readonly Placement[]): PortableAdapter<CommonConfig> {
  const changes = new Map<Placement, HydraChange>();
  for (const placement of placements) {
    const { module } = placement;
    if (module instanceof HydraLinear) changes.set(placement, module.change());
  }
  const loraBias = [...changes.values()].some(({ bias }) => bias !== undefined && !isZero(bias));
  const rank = config.rankParallel + config.rankSequential;
  return {
    method: lora,
    config: plainLoraConfig(config, { rank, alpha: rank, loraBias }),
    tensors: placements.flatMap((placement) => {
      const change = changes.get(placement);
      return change === undefined ? namedTensorsOf(placement) : loraTensors(placement, change, loraBias);
    }),
  };
}

function loraTensors({ path }: Placement, { a, b, bias }: HydraChange, loraBias: boolean): [string, Tensor][] {
  const factors: [string, Tensor][] = [
    [`${path}.lora_A.weight`, a],
    [`${path}.lora_B.weight`, b],
  ];
  if (loraBias) factors.push([`${path}.lora_B.bias`, bias ?? zeros([b.shape[0] ?? 0], { dtype: b.dtype })]);
  return factors;
}

const isZero = (values: Tensor): boolean => (values.dataSync() as Float32Array).every((value) => value === 0);
