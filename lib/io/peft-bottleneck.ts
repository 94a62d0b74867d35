import type { PeftFormat } from '../adapters/adapter.js';
import { type BottleneckConfig, bottleneckDefaults } from '../adapters/bottleneck-config.js';
import { ConfigError } from '../errors.js';
import type { JsonObject } from './json.js';
import { readValue } from './peft-values.js';

const defaults = bottleneckDefaults;

function readScaling(file: JsonObject): number | 'learned' {
  const value = file.scaling ?? defaults.scaling;
  if (typeof value === 'number' || value === 'learned') return value;
  throw new ConfigError(`adapter_config.json: "scaling" must be a number or "learned"; got ${JSON.stringify(value)}`);
}

/** Bottleneck adapters in the files of LLM-Adapters, which PEFT itself does not read. */
export const peftBottleneck: PeftFormat<BottleneckConfig> = {
  keys: {
    bottleneck_size: defaults.bottleneckSize,
    non_linearity: defaults.nonLinearity,
    adapter_dropout: defaults.dropout,
    use_parallel_adapter: defaults.parallel,
    use_adapterp: defaults.adapterP,
    scaling: defaults.scaling,
    bias: defaults.bias,
    init_weights: defaults.init,
  },
  read: (file) => ({
    bottleneckSize: readValue(file, 'bottleneck_size', 'number', defaults.bottleneckSize),
    nonLinearity: readValue(file, 'non_linearity', 'string', defaults.nonLinearity),
    dropout: readValue(file, 'adapter_dropout', 'number', defaults.dropout),
    parallel: readValue(file, 'use_parallel_adapter', 'boolean', defaults.parallel),
    adapterP: readValue(file, 'use_adapterp', 'boolean', defaults.adapterP),
    scaling: readScaling(file),
    bias: readValue<BottleneckConfig['bias']>(file, 'bias', 'string', defaults.bias),
    init: readValue<BottleneckConfig['init']>(file, 'init_weights', 'string', defaults.init),
  }),
  write: (config) => ({
    bottleneck_size: config.bottleneckSize,
    non_linearity: config.nonLinearity,
    adapter_dropout: config.dropout,
    use_parallel_adapter: config.parallel,
    use_adapterp: config.adapterP,
    scaling: config.scaling,
    bias: config.bias,
    init_weights: config.init,
  }),
};
