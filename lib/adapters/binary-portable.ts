import { AdapterError } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { AdapterForm, AdapterModule, CommonConfig, Placement, PortableAdapter } from './adapter.js';
import { namedTensors, tensorsOf } from './adapter-table.js';
import type { BinaryConfig } from './binary-config.js';
import { BinaryLora } from './binary-modules.js';
import { BinaryWeight } from './binary-weight.js';
import { lora } from './lora.js';
import { plainLoraConfig } from './lora-config.js';

type Named = readonly [name: string, value: Tensor];

/** The matrices of few bits of a module by the path that they have in it. */
export const weightsOf = (module: AdapterModule): [string, BinaryWeight][] =>
  [...module.namedModules()].filter((entry): entry is [string, BinaryWeight] => entry[1] instanceof BinaryWeight);

/** Codes in place of the weights that train; everything else as it is. */
function stored(module: AdapterModule): Named[] {
  const weights = new Map(weightsOf(module));
  const codes = [...weights].flatMap(([path, weight]): Named[] => {
    const { codes, meta } = weight.codes() ?? {};
    return codes === undefined || meta === undefined
      ? [[`${path}.weight`, weight.values()]]
      : [
          [`${path}.qweight`, codes],
          [`${path}.qmeta`, meta],
        ];
  });
  const others = tensorsOf(module).filter(([name]) => !weights.has(name.slice(0, name.lastIndexOf('.'))));
  return [...codes, ...others];
}

/** Everything that trains. Throws `AdapterError` where only codes are there. */
function trained(module: AdapterModule): Named[] {
  for (const [, weight] of weightsOf(module)) weight.master();
  return tensorsOf(module);
}

/** Plain LoRA with the values of the codes: the same change of the layers. */
function asLora(config: BinaryConfig, placements: readonly Placement[]): PortableAdapter<CommonConfig> {
  if (config.adapter !== 'lora')
    throw new AdapterError('save: form "lora" is of binary adapters on linear layers; got adapter "adaptformer", expected "lora"');
  if (config.bihead) throw new AdapterError('save: form "lora" has no place for a head of one bit; expected bihead false');
  const { dim, scale } = config;
  return {
    method: lora,
    config: plainLoraConfig(config, { rank: dim, alpha: scale * dim }),
    tensors: placements.flatMap(({ path, module }): Named[] =>
      module instanceof BinaryLora
        ? [
            [`${path}.lora_A.weight`, module.adapter_down.values()],
            [`${path}.lora_B.weight`, module.adapter_up.values()],
          ]
        : namedTensors(path, tensorsOf(module)),
    ),
  };
}

/** `published`: codes, for inference. `native`: the weights that train. `lora`: plain LoRA (of adapters on linear layers). */
export function portableBinary(config: BinaryConfig, placements: readonly Placement[], form: AdapterForm): PortableAdapter<CommonConfig> {
  if (form === 'lora') return asLora(config, placements);
  if (form !== 'published' && form !== 'native')
    throw new AdapterError(
      `save: form "${form}" is of adapters that took a part out of the frozen weights; expected "published", "native" or "lora"`,
    );
  const tensorsIn = form === 'published' ? stored : trained;
  const tensors = placements.flatMap(({ path, module }) => tensorsIn(module).map(([end, value]): Named => [`${path}.${end}`, value]));
  return {
    codes: new Set(tensors.filter(([name]) => /\.q(weight|meta)$/.test(name)).map(([, value]) => value)),
    config: { ...config, storage: form === 'published' ? 'codes' : 'master' } as BinaryConfig,
    tensors,
  };
}
