import type { PeftFormat } from '../adapters/adapter.js';
import { type HydraConfig, type HydraInit, hydraDefaults } from '../adapters/hydra-config.js';
import type { JsonObject } from './json.js';
import { readEither, readValue } from './peft-values.js';

function read(file: JsonObject): Partial<HydraConfig> {
  return {
    rankParallel: readValue(file, 'r_parallel', 'number', hydraDefaults.rankParallel),
    rankSequential: readValue(file, 'r_sequential', 'number', hydraDefaults.rankSequential),
    scale: readEither<HydraConfig['scale']>(file, 'scale', 'number', 'learned', hydraDefaults.scale),
    bias: readEither<HydraConfig['bias']>(file, 'hydra_bias', 'boolean', 'auto', hydraDefaults.bias),
    dropout: readValue(file, 'hydra_dropout', 'number', hydraDefaults.dropout),
    init: readValue<HydraInit>(file, 'init_hydra_weights', 'string', hydraDefaults.init),
  };
}

/**
 * Hydra in files of the form of PEFT's, which has no such method: `peft_type` HYDRA, tensors `PATH.hydra_par_A.weight` [rp, K],
 * `PATH.hydra_par_B.weight` [N, rp], `PATH.hydra_seq_A.weight` [rs, N], `PATH.hydra_seq_B.weight` [N, rs], their biases, and
 * `PATH.hydra_scale` [1] of a learned scale.
 */
export const peftHydra: PeftFormat<HydraConfig> = {
  keys: {
    r_parallel: hydraDefaults.rankParallel,
    r_sequential: hydraDefaults.rankSequential,
    scale: hydraDefaults.scale,
    hydra_bias: hydraDefaults.bias,
    hydra_dropout: hydraDefaults.dropout,
    init_hydra_weights: hydraDefaults.init,
  },
  read,
  write: ({ rankParallel, rankSequential, scale, bias, dropout, init }) => ({
    r_parallel: rankParallel,
    r_sequential: rankSequential,
    scale,
    hydra_bias: bias,
    hydra_dropout: dropout,
    init_hydra_weights: init,
  }),
};
