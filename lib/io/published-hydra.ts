import { join } from 'node:path';
import { hydra } from '../adapters/hydra.js';
import { type HydraConfig, hydraDefaults } from '../adapters/hydra-config.js';
import { FormatError } from '../errors.js';
import { mul } from '../ops/elementwise.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { makeFolder, writeFileAtomically } from './atomic-file.js';
import { writePeftConfig } from './peft-config.js';
import { loadSafetensors, saveSafetensors } from './safetensors.js';

/**
 * Which of the authors' three programs wrote a file: for ViT on VTAB-1K (timm names), for RoBERTa on GLUE, or for the image tower of CLIP
 * on ELEVATER.
 */
export type HydraLayout = 'vtab' | 'glue' | 'elevater';

/** A published tensor: the layer it belongs to, its branch, and what it is there. */
interface Place {
  readonly path: string;
  readonly branch: 'par' | 'seq';
  readonly end: 'A.weight' | 'A.bias' | 'B.weight' | 'B.bias' | 'scale';
}

const kEnds: Readonly<Record<string, Place['end']>> = {
  'down_proj.weight': 'A.weight',
  'down_proj.bias': 'A.bias',
  'up_proj.weight': 'B.weight',
  'up_proj.bias': 'B.bias',
  'hydra_A.weight': 'A.weight',
  'hydra_B.weight': 'B.weight',
  scale: 'scale',
};

interface Layout {
  readonly pattern: RegExp;
  readonly place: (match: RegExpExecArray) => { readonly path: string; readonly branch: string; readonly end: string };
}

const kLayouts: Readonly<Record<HydraLayout, Layout>> = {
  vtab: {
    pattern: /^blocks\.(\d+)\.(attn|mlp)\.hydra_(?:proj|mlp)_(par|seq)\.(.+)$/,
    place: ([, block = '', part, branch = '', end = '']) => ({
      path: `vit.encoder.layer.${block}.${part === 'attn' ? 'attention.' : ''}output.dense`,
      branch,
      end,
    }),
  },
  glue: {
    pattern: /^(.+\.output)\.hydra_(par|seq)\.(.+)$/,
    place: ([, output = '', branch = '', end = '']) => ({ path: `${output}.dense`, branch, end }),
  },
  elevater: {
    pattern: /^visual\.transformer\.resblocks\.(\d+)\.mlp\.ad_lin\.adapter_(par|seq)\.(.+)$/,
    place: ([, block = '', branch = '', end = '']) => ({ path: `vision_model.encoder.layers.${block}.mlp.fc2`, branch, end }),
  },
};

/** The layout of a file with these names. Throws `FormatError` where there is none of Hydra. */
function layoutOf(source: string, names: Iterable<string>): HydraLayout {
  for (const name of names)
    for (const [layout, { pattern }] of Object.entries(kLayouts)) if (pattern.test(name)) return layout as HydraLayout;
  throw new FormatError(
    `${source}: no tensor is called as in the published files of Hydra; expected such as "blocks.0.mlp.hydra_mlp_par.down_proj.weight"`,
  );
}

function placeOf(name: string, { pattern, place }: Layout): Place | undefined {
  const match = pattern.exec(name);
  if (match === null) return undefined;
  const { path, branch, end } = place(match);
  const known = kEnds[end];
  return known === undefined ? undefined : { path, branch: branch as Place['branch'], end: known };
}

export interface ConvertHydraOptions {
  /** The scale of both branches, which the files for VTAB-1K and GLUE do not hold (see `docs/methods/hydra.md`). Default 1. */
  readonly scale?: number;
  /** The path of a layer in the model, where it is another one than in the checkpoints of transformers. */
  readonly rename?: (path: string) => string;
  /** What `base_model_name_or_path` says. */
  readonly baseModel?: string;
}

/** What `convertHydra` found. */
export interface ConvertedHydra {
  readonly layout: HydraLayout;
  readonly rankParallel: number;
  readonly rankSequential: number;
  /** Names that are not of Hydra or of its head, and were left out. */
  readonly left: readonly string[];
}

/**
 * Writes a file of one of the authors' programs, saved as safetensors, as a folder that `loadAdapter` reads. Names become those of the
 * published models; the head of a file for VTAB-1K becomes `classifier`, saved whole. Learned scales (ELEVATER) go into the up-projections.
 * Throws `FormatError` for a file without tensors of Hydra.
 */
export async function convertHydra(source: string, folder: string, options: ConvertHydraOptions = {}): Promise<ConvertedHydra> {
  const { scale = 1, rename = (path: string): string => path, baseModel } = options;
  return scope(async () => {
    const stored = await loadSafetensors(source);
    const layout = layoutOf(source, stored.keys());
    const scales = new Map<string, Tensor>();
    const placed: [string, Place, Tensor][] = [];
    const tensors: Record<string, Tensor> = {};
    const left: string[] = [];
    for (const [name, value] of stored) {
      const place = placeOf(name, kLayouts[layout]);
      if (place === undefined) {
        if (layout === 'vtab' && /^head\.(weight|bias)$/.test(name)) tensors[`classifier${name.slice('head'.length)}`] = value;
        else left.push(name);
      } else if (place.end === 'scale') scales.set(`${place.path} ${place.branch}`, value);
      else placed.push([rename(place.path), place, value]);
    }
    const ranks = { par: 0, seq: 0 };
    for (const [path, { path: published, branch, end }, value] of placed) {
      if (end === 'A.weight') ranks[branch] = value.shape[0] ?? 0;
      const learned = end.startsWith('B') ? scales.get(`${published} ${branch}`) : undefined;
      tensors[`${path}.hydra_${branch}_${end}`] = learned === undefined ? value : noGrad(() => mul(value, learned));
    }
    const config: HydraConfig = {
      ...hydraDefaults,
      rankParallel: ranks.par,
      rankSequential: ranks.seq,
      scale,
      bias: placed.some(([, { end }]) => end === 'A.bias'),
      modulesToSave: tensors['classifier.weight'] === undefined ? null : ['classifier'],
    };
    const targets = [...new Set(placed.map(([path]) => path))];
    await makeFolder(folder);
    const named = Object.fromEntries(Object.entries(tensors).map(([name, value]) => [`base_model.model.${name}`, value]));
    await saveSafetensors(join(folder, 'adapter_model.safetensors'), named);
    await writeFileAtomically(join(folder, 'adapter_config.json'), writePeftConfig({ method: hydra, config, targets, baseModel }));
    return { layout, rankParallel: ranks.par, rankSequential: ranks.seq, left };
  });
}
