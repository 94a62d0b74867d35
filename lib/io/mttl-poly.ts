import { join } from 'node:path';
import { poly } from '../adapters/poly.js';
import { type PolyConfig, polyDefaults } from '../adapters/poly-config.js';
import { FormatError } from '../errors.js';
import { mul } from '../ops/elementwise.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { makeFolder, writeFileAtomically } from './atomic-file.js';
import { readPeftFolder } from './peft.js';
import { writePeftConfig } from './peft-config.js';
import { loadSafetensors, saveSafetensors } from './safetensors.js';

/** Ends of names in the checkpoints of mttl, and here. */
const kEnds = [
  ['lora_a', 'poly_lora_A'],
  ['lora_b', 'poly_lora_B'],
  ['selector.module_logits', 'poly_router.module_logits'],
] as const;
const kModel = 'model.';
const kFile = 'base_model.model.';

export interface ConvertMttlOptions {
  /** What the `hyper_parameters` of the checkpoint say: `lora_alpha`, and how gates come from logits. Defaults: 1 and `'relaxed'`. */
  readonly alpha?: number;
  readonly gates?: PolyConfig['gates'];
  /** What `base_model_name_or_path` says. */
  readonly baseModel?: string;
}

/** What `convertMttl` found. */
export interface ConvertedMttl extends Pick<PolyConfig, 'rank' | 'tasks' | 'skills' | 'splits'> {
  /** Names that are not of Poly, and were left out. */
  readonly left: readonly string[];
}

/** B with alpha in it: neither PEFT nor a checkpoint of mttl says what alpha is. */
const withAlpha = (name: string, value: Tensor, alpha: number): Tensor =>
  alpha !== 1 && name.endsWith('.poly_lora_B') ? noGrad(() => mul(value, alpha)) : value;

/** The name of a tensor of a checkpoint here; undefined where it is not of Poly. */
function renamed(name: string): string | undefined {
  const end = kEnds.find(([theirs]) => name.endsWith(`.${theirs}`));
  if (end === undefined) return undefined;
  const path = name.slice(0, -end[0].length - 1);
  return `${path.startsWith(kModel) ? path.slice(kModel.length) : path}.${end[1]}`;
}

/**
 * Writes the `state_dict` of a checkpoint of mttl, saved as safetensors, as a folder that `loadAdapter` and PEFT read: names change,
 * tensors stay, but that B is multiplied by alpha. Throws `FormatError` for a file without tensors of Poly, or with layers of different sizes.
 */
export async function convertMttl(source: string, folder: string, options: ConvertMttlOptions = {}): Promise<ConvertedMttl> {
  const { alpha = polyDefaults.alpha, gates = polyDefaults.gates, baseModel } = options;
  return scope(async () => {
    const stored = await loadSafetensors(source);
    const tensors = new Map<string, Tensor>();
    const left: string[] = [];
    for (const [name, value] of stored) {
      const own = renamed(name);
      if (own === undefined) left.push(name);
      else tensors.set(own, withAlpha(own, value, alpha));
    }
    const sizes = sizesOf(source, tensors);
    const config: PolyConfig = { ...polyDefaults, ...sizes, alpha: 1, gates };
    const targets = [...tensors.keys()]
      .filter((name) => name.endsWith('.poly_lora_A'))
      .map((name) => name.slice(0, -'.poly_lora_A'.length));
    await makeFolder(folder);
    await saveSafetensors(join(folder, 'adapter_model.safetensors'), new Map([...tensors].map(([name, value]) => [kFile + name, value])));
    await writeFileAtomically(join(folder, 'adapter_config.json'), writePeftConfig({ method: poly, config, targets, baseModel }));
    return { ...sizes, left };
  });
}

function sizesOf(source: string, tensors: ReadonlyMap<string, Tensor>): Pick<PolyConfig, 'rank' | 'tasks' | 'skills' | 'splits'> {
  const found = new Set<string>();
  for (const [name, value] of tensors) {
    if (!name.endsWith('.poly_lora_A')) continue;
    const [splits = 0, skills = 0, , rank = 0] = value.shape;
    const logits = tensors.get(name.replace(/poly_lora_A$/, 'poly_router.module_logits'));
    if (logits === undefined || logits.shape[1] !== splits * skills)
      throw new FormatError(
        `${source}: "${name}" has no router for ${splits} times ${skills} weights; got [${logits?.shape.join(', ') ?? ''}]`,
      );
    found.add(JSON.stringify({ rank, tasks: logits.shape[0] ?? 0, skills, splits }));
  }
  const [sizes, other] = found;
  if (sizes === undefined)
    throw new FormatError(
      `${source}: no tensor is called as in checkpoints of mttl; expected such as "model.encoder.block.0.layer.0.SelfAttention.q.lora_a"`,
    );
  if (other !== undefined) throw new FormatError(`${source}: layers of different sizes; got ${sizes} and ${other}`);
  return JSON.parse(sizes) as Pick<PolyConfig, 'rank' | 'tasks' | 'skills' | 'splits'>;
}

/**
 * The other way: writes a saved Poly adapter as the tensors of a checkpoint of mttl with `lora_alpha` 1, in one safetensors file.
 * Throws `FormatError` for another method.
 */
export async function writeMttl(folder: string, target: string): Promise<void> {
  await scope(async () => {
    const { config, tensors } = await readPeftFolder(folder);
    if (config.method.name !== 'poly')
      throw new FormatError(`${folder}: an adapter of another method; got "${config.method.name}", expected "poly"`);
    const { alpha } = config.config as PolyConfig;
    const named = [...tensors].map(([name, value]): [string, Tensor] => {
      const end = kEnds.find(([, own]) => name.endsWith(`.${own}`));
      return [kModel + (end === undefined ? name : name.slice(0, -end[1].length) + end[0]), withAlpha(name, value, alpha)];
    });
    await saveSafetensors(target, new Map(named));
  });
}
