import type { PeftFormat } from '../adapters/adapter.js';
import { type PolyConfig, polyDefaults } from '../adapters/poly-config.js';
import { ConfigError } from '../errors.js';
import type { JsonObject } from './json.js';
import { readValue } from './peft-values.js';

/** Options that PEFT does not have, by their key in a file: there only where they are not the default. */
const further = {
  lora_alpha: 'alpha',
  module_logits: 'gates',
  module_logits_dropout: 'gateDropout',
  poly_use_shared_skill: 'sharedSkill',
  poly_average_correction: 'averageCorrection',
  router_granularity: 'granularity',
  lora_init: 'init',
  module_logits_learning_rate: 'routerLearningRate',
} as const satisfies Readonly<Record<string, keyof PolyConfig>>;

/** Values that a file may have for such an option: those of the default's type, null for what may be null. */
function readFurther(file: JsonObject): Partial<PolyConfig> {
  const read: Record<string, unknown> = {};
  for (const [key, option] of Object.entries(further)) {
    const standard = polyDefaults[option];
    if (option === 'routerLearningRate' && file[key] === null) read[option] = null;
    else read[option] = readValue(file, key, typeof standard as 'string' | 'number' | 'boolean', standard);
  }
  return read as Partial<PolyConfig>;
}

function read(file: JsonObject): Partial<PolyConfig> {
  const type = readValue(file, 'poly_type', 'string', 'poly');
  if (type !== 'poly') throw new ConfigError(`adapter_config.json: unknown "poly_type"; got ${JSON.stringify(type)}, expected "poly"`);
  return {
    rank: readValue(file, 'r', 'number', polyDefaults.rank),
    tasks: readValue(file, 'n_tasks', 'number', polyDefaults.tasks),
    skills: readValue(file, 'n_skills', 'number', polyDefaults.skills),
    splits: readValue(file, 'n_splits', 'number', polyDefaults.splits),
    randomB: !readValue(file, 'init_weights', 'boolean', !polyDefaults.randomB),
    ...readFurther(file),
  };
}

/**
 * Poly in PEFT's files, with alpha 1: `PATH.poly_lora_A` [H, S, K / H, R], `PATH.poly_lora_B` [H, S, R, N / H],
 * `PATH.poly_router.module_logits` [T, H * S]. PEFT leaves keys that it does not know out, with a warning: what it computes from files with
 * such keys is what it has.
 */
export const peftPoly: PeftFormat<PolyConfig> = {
  keys: {
    poly_type: 'poly',
    r: polyDefaults.rank,
    n_tasks: polyDefaults.tasks,
    n_skills: polyDefaults.skills,
    n_splits: polyDefaults.splits,
    init_weights: true,
  },
  further: Object.keys(further),
  lacks: ['layers_to_transform', 'layers_pattern'],
  read,
  write: (config) => ({
    poly_type: 'poly',
    r: config.rank,
    n_tasks: config.tasks,
    n_skills: config.skills,
    n_splits: config.splits,
    init_weights: !config.randomB,
    ...Object.fromEntries(
      Object.entries(further)
        .filter(([, option]) => config[option] !== polyDefaults[option])
        .map(([key, option]) => [key, config[option]]),
    ),
  }),
};
