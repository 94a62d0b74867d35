import test from 'ava';
import { ConfigError } from 'lorikeet';
import { createNetwork } from '#dist/models/registry.js';

const llama = {
  model_type: 'llama',
  vocab_size: 97,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  some_key_of_tomorrow: { anything: true },
};

const fails = (t: import('ava').ExecutionContext, config: Record<string, unknown>, message: string | RegExp): void => {
  t.throws(() => createNetwork(config), { instanceOf: ConfigError, message });
};

test('unknown keys are ignored, defaults are those of the published classes', (t) => {
  const network = createNetwork(llama);
  t.deepEqual(network.shape, { vocabularySize: 97, contextLength: 64, hiddenSize: 32, layers: 2, keyValueHeads: 2, headWidth: 8 });
  t.is(network.rotary.parameters.theta, 10000);
});

test('a misspelt key is no unknown key', (t) => {
  fails(t, { ...llama, rope_thetta: 5000 }, 'model config: unknown key "rope_thetta"; did you mean "rope_theta"?');
  fails(t, { ...llama, hidden_sise: 32, hidden_size: undefined }, /key "hidden_size" is missing/);
  fails(t, { ...llama, rope_scaling: { rope_type: 'linear', facter: 2 } }, /unknown key "facter"; did you mean "factor"/);
});

test('a config of absurd size is refused before a network is made', (t) => {
  fails(t, { ...llama, num_hidden_layers: 1e9 }, /key "num_hidden_layers" is wrong; got 1000000000/);
});

test('a missing key is named', (t) => {
  for (const key of [
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'max_position_embeddings',
    'rms_norm_eps',
  ]) {
    const { [key as 'vocab_size']: _, ...rest } = llama;
    fails(t, rest, `model config: key "${key}" is missing`);
  }
  const { num_key_value_heads: _, ...rest } = llama;
  fails(t, { ...rest, model_type: 'qwen2' }, 'model config: key "num_key_value_heads" is missing');
  fails(t, { ...llama, model_type: 'qwen3' }, 'model config: key "head_dim" is missing');
});

test('a wrong value is named', (t) => {
  fails(t, { ...llama, hidden_size: '32' }, /key "hidden_size" is wrong; got "32"/);
  fails(t, { ...llama, num_hidden_layers: -1 }, /key "num_hidden_layers" is wrong; got -1/);
});

test('an unknown model type gets the nearest name', (t) => {
  fails(
    t,
    { ...llama, model_type: 'lama' },
    'model config: unknown "model_type" "lama"; known are llama, mistral, qwen2, qwen3; did you mean "llama"?',
  );
  fails(t, { vocab_size: 3 }, 'model config: key "model_type" is missing; known are llama, mistral, qwen2, qwen3');
  fails(t, { ...llama, model_type: 'constructor' }, /unknown "model_type" "constructor"/);
});

test('what would change the result and is not supported is an error', (t) => {
  fails(t, { ...llama, hidden_act: 'mish' }, /unknown "hidden_act" "mish"/);
  fails(t, { ...llama, partial_rotary_factor: 0.5 }, /"partial_rotary_factor" other than 1 is not supported; got 0.5/);
  fails(
    t,
    { ...llama, rope_scaling: { type: 'longrope', factor: 2 } },
    /unknown rope type "longrope"; known are default, linear, dynamic, llama3, yarn/,
  );
  fails(t, { ...llama, rope_parameters: { rope_type: 'linear' } }, /rope: type "linear" needs factor; got none/);
  fails(t, { ...llama, rope_scaling: { rope_type: 'llama3', factor: 8 } }, /rope: type "llama3" needs lowFrequencyFactor/);
  fails(t, { ...llama, num_key_value_heads: 3 }, /"num_attention_heads" must be a multiple of "num_key_value_heads"; got 4 and 3/);
  fails(t, { ...llama, hidden_size: 30 }, /"hidden_size" must be a multiple of "num_attention_heads"/);
  fails(t, { ...llama, head_dim: 7 }, /rope: the head width must be even and positive; got 7/);
  fails(
    t,
    { ...llama, model_type: 'qwen2', use_sliding_window: true, sliding_window: 4, layer_types: ['full_attention'] },
    /"layer_types" must name every layer; got 1 entries, expected 2/,
  );
});
