import test from 'ava';
import { attach, loraPlusGroups } from '#dist/adapters/index.js';
import { loadTiny } from '../helpers/adapters.js';
import { TinyNetwork } from '../helpers/tiny-network.js';

test.serial('groups and rates of a model with linear layers, an embedding, DoRA, biases and a norm', async (t) => {
  const model = await loadTiny('models/llama-biases-untied');
  const tuned = await attach(model, {
    type: 'lora',
    dora: true,
    bias: 'lora_only',
    targets: ['q_proj', 'embed_tokens'],
    modulesToSave: ['lm_head', 'input_layernorm'],
  });
  const groups = loraPlusGroups(tuned, { learningRate: 1e-3, ratio: 16, weightDecay: 0.1 });
  const names = new Map([...tuned.namedParameters()].map(([name, value]) => [value, name]));
  const members = Object.fromEntries(
    groups.map(({ name, parameters }) => [name, parameters.map((value) => names.get(value)?.replace(/^model\.|layers\.\d\./g, ''))]),
  );
  t.deepEqual([...new Set(members.a)], ['self_attn.q_proj.lora_A.weight', 'lm_head.weight']);
  t.deepEqual(members.embedding, ['embed_tokens.lora_embedding_A', 'embed_tokens.lora_embedding_B']);
  t.deepEqual([...new Set(members.b)].sort(), [
    'embed_tokens.lora_magnitude_vector',
    'self_attn.q_proj.lora_B.weight',
    'self_attn.q_proj.lora_magnitude_vector',
  ]);
  t.deepEqual([...new Set(members['b-no-decay'])].sort(), ['self_attn.q_proj.base_layer.bias', 'input_layernorm.weight'].sort());
  t.deepEqual(
    groups.map(({ name, learningRate, weightDecay }) => [name, learningRate, weightDecay]),
    [
      ['a', 1e-3, 0.1],
      ['embedding', 1e-6, 0.1],
      ['b', 16e-3, 0.1],
      ['b-no-decay', 16e-3, 0],
    ],
  );
  tuned.dispose();
  model.dispose();
});

test.serial('a ratio below 1, a rate of 0 and nothing to train are errors', async (t) => {
  const network = new TinyNetwork();
  const set = await attach(network, { type: 'lora' });
  t.throws(() => loraPlusGroups(set, { learningRate: 1e-3, ratio: 0.5 }), {
    code: 'config',
    message: /ratio must be at least 1; got 0\.5/,
  });
  t.throws(() => loraPlusGroups(set, { learningRate: 0, ratio: 16 }), { code: 'config', message: /learningRate must be positive; got 0/ });
  set.deactivate();
  t.throws(() => loraPlusGroups(set, { learningRate: 1e-3, ratio: 16 }), { code: 'adapter', message: /activate an adapter first/ });
  set.dispose();
  network.dispose();
});
