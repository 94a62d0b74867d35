import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, attach, FormatError, loadAdapter, memory, noGrad, scope, type Tensor, type TunedModel } from 'lorikeet';
import { narrow, normal, ones, unsqueeze } from 'lorikeet/ops';
import { convertPetlAst } from '#dist/io/published-petl-ast.js';
import { saveSafetensors } from '#dist/io/safetensors.js';
import { sameBits, temporaryFolder } from '../helpers/adapters.js';
import { asModel, goldenEncoder, openEncoder } from '../helpers/encoders.js';
import { perturb } from '../helpers/perturb.js';

/** The tensors of an adapter by the names of the study's program, with some more that it also writes. */
function published(tuned: TunedModel): Record<string, Tensor> {
  const parts: Record<string, string> = {
    down: 'linear_downsample',
    up: 'linear_upsample',
    pointwise1: 'pwise_conv1',
    depthwise: 'dwise_conv',
    norm: 'bnorm',
    pointwise2: 'pwise_conv2',
  };
  const found: Record<string, Tensor> = {
    'classification_head.weight': ones([2, 2]),
    'encoder.layer.0.adapter_module_FFN.lnorm.weight': ones([32]),
  };
  for (const [name, value] of tuned.namedParameters()) {
    const bare = name.replace('audio_spectrogram_transformer.', '');
    const [, start, point, part = '', end = ''] = /^(.*)adapter_(attention|mlp)\.(\w+)\.(\w+)$/.exec(bare) ?? [];
    const [, path = '', layer = '', factor] = /^(.*)\.(query|value)\.lora_(A|B)\.weight$/.exec(bare) ?? [];
    if (start !== undefined) {
      const isPointwise = part.startsWith('pointwise') && end === 'weight';
      found[`${start}adapter_module_${point === 'mlp' ? 'FFN' : 'MHSA'}.${parts[part]}.${end}`] = isPointwise ? unsqueeze(value, 2) : value;
    } else if (factor !== undefined) found[`${path}.lora_${factor === 'A' ? 'down' : 'up'}_${layer[0]}.weight`] = value;
    else if (bare === 'prompt_embeddings' && value.rank === 2) {
      for (const slice of [0, 1, 2, 3])
        found[`encoder.layer.${slice >> 1}.attention.attention.${slice % 2 === 0 ? 'key' : 'value'}_tokens`] = unsqueeze(
          narrow(value, 1, 32 * slice, 32),
          0,
        );
    } else found[bare] = value;
  }
  return Object.fromEntries(Object.entries(found).map(([name, value]) => [`model.${name}`, value]));
}

for (const [config, options] of [
  [{ type: 'block-adapter', sublayers: 'both', width: 3 }, {}],
  [
    { type: 'block-adapter', placement: 'sequential', residual: false, width: 3 },
    { placement: 'sequential', residual: false },
  ],
  [{ type: 'block-adapter', block: 'conformer', width: 3, kernelSize: 5 }, {}],
  [{ type: 'deep-prompt', virtualTokens: 3 }, {}],
  [{ type: 'deep-prompt', virtualTokens: 3, deep: false }, {}],
  [{ type: 'prefix', virtualTokens: 2 }, {}],
  [{ type: 'lora', rank: 4, alpha: 0.5, targets: ['query', 'value'] }, {}],
] as [AdapterConfig, object][]) {
  test.serial(`files of the study: ${JSON.stringify(config)}`, async (t) => {
    const { network } = await openEncoder(goldenEncoder('ast'), 'classification', { head: { pooling: { mode: 'mean' } } });
    const model = asModel(network, 'ast');
    const features = normal([2, 48, 32], { seed: 5 });
    const run = (): Float32Array =>
      scope(() => Float32Array.from(noGrad(() => network.forward({ features }, { training: false })).dataSync() as Float32Array));
    const base = run();
    const tuned = await attach(model, config);
    perturb(tuned, 0.2);
    const changed = run();
    const folder = temporaryFolder();
    await scope(() =>
      saveSafetensors(
        join(folder, 'state.safetensors'),
        noGrad(() => published(tuned)),
      ),
    );
    tuned.dispose();
    t.is(await convertPetlAst(join(folder, 'state.safetensors'), join(folder, 'adapter'), options), config.type);
    const loaded = await loadAdapter(model, join(folder, 'adapter'));
    t.false(sameBits(changed, base));
    t.true(sameBits(run(), changed));
    loaded.dispose();
    features.dispose();
    model.dispose();
    t.is(memory().tensors, 0);
  });
}

test.serial('a file of something else is refused', async (t) => {
  const folder = temporaryFolder();
  await scope(() => saveSafetensors(join(folder, 'other.safetensors'), { 'encoder.weight': ones([2]) }));
  await t.throwsAsync(convertPetlAst(join(folder, 'other.safetensors'), join(folder, 'adapter')), {
    instanceOf: FormatError,
    message: /no tensor is called as in files of PETL_AST/,
  });
});
