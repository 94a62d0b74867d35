// MoSA as it is deployed beside the plain adapter: time of a pass of a vision transformer of base width, four blocks deep.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AdapterConfig, attach, loadAdapter, synchronize } from 'lorikeet';
import { EncoderModel } from '#dist/encoder-model.js';
import { newVit } from '#dist/models/vit.js';
import { normal } from '#dist/ops/create.js';
import { noGrad, scope } from '#dist/scope.js';
import { type Report, rounded } from '../harness.js';

const kRuns = 12;
const kConfig = {
  model_type: 'vit',
  image_size: 224,
  patch_size: 16,
  num_channels: 3,
  hidden_size: 768,
  num_hidden_layers: 4,
  num_attention_heads: 12,
  intermediate_size: 3072,
  hidden_act: 'gelu',
  layer_norm_eps: 1e-6,
};

/** A vision transformer of random weights. */
function model(): EncoderModel<'classification'> {
  const network = newVit(kConfig, 'classification', { labels: 2 });
  network.freeze();
  return new EncoderModel({
    network,
    task: 'classification',
    labels: ['0', '1'],
    config: kConfig,
    device: 'cpu',
    tokenizer: undefined,
    processor: undefined,
    source: 'random weights',
    newParameters: [],
    headSeed: 0,
  });
}

/** Fastest milliseconds of a pass of each, in alternating runs on one model. */
export async function timeMerged(report: Report): Promise<object> {
  const base = model();
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-'));
  try {
    const config: AdapterConfig = { type: 'mosa', style: 'adaptformer', share: 'none' };
    const trained = await attach(base, config);
    await trained.save(folder);
    trained.dispose();
    await attach(base, { ...config, experts: 1 } as AdapterConfig, { name: 'plain' });
    const tuned = await loadAdapter(base, folder, { name: 'merged' });
    const pixels = normal([1, 3, 224, 224], { seed: 1 });
    const times: Record<string, number[]> = { plain: [], merged: [] };
    for (let run = -2; run < kRuns; run++) {
      for (const name of run % 2 === 0 ? ['plain', 'merged'] : ['merged', 'plain']) {
        tuned.activate(name);
        const start = performance.now();
        scope(() => noGrad(() => void base.forward({ pixels }, { training: false })));
        await synchronize();
        if (run >= 0) times[name]?.push(performance.now() - start);
      }
    }
    const [plain, merged] = ['plain', 'merged'].map((name) => Math.min(...(times[name] as number[]))) as [number, number];
    const row = { 'plain ms': rounded(plain), 'merged ms': rounded(merged), 'merged / plain': rounded(merged / plain, 3) };
    report.line(`\nMoSA merged beside the plain adapter, one image, 4 blocks of width 768, fastest of ${kRuns}`);
    report.table([row]);
    report.line(`${Math.abs(merged / plain - 1) <= 0.05 ? 'holds' : 'FAILS'}  merged takes the time of the plain adapter, to 5 %`);
    tuned.dispose();
    pixels.dispose();
    return row;
  } finally {
    rmSync(folder, { recursive: true });
    base.dispose();
  }
}
