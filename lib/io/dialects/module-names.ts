import { didYouMean, FormatError } from '../../errors.js';

const layerParts = [
  'self_attn.q_proj',
  'self_attn.k_proj',
  'self_attn.v_proj',
  'self_attn.o_proj',
  'mlp.gate_proj',
  'mlp.up_proj',
  'mlp.down_proj',
];
const outerParts = ['lm_head', 'model.embed_tokens'];

export const flatName = (path: string): string => path.replaceAll('.', '_');

/**
 * Turns names with `_` for `.` back into module paths: by the module names of a model where they are given, else by the usual names of decoder language models
 * (`model.layers.N.self_attn.q_proj` …). Throws `FormatError` for a name that fits no module or two of them.
 */
export function pathFinder(file: string, modules: Iterable<string> | undefined): (flat: string) => string {
  if (modules === undefined) return (flat) => usualPath(file, flat);
  const paths = new Map<string, string[]>();
  for (const path of modules) {
    const flat = flatName(path);
    paths.set(flat, [...(paths.get(flat) ?? []), path]);
  }
  return (flat) => {
    const [path, other] = paths.get(flat) ?? [];
    if (path === undefined) throw new FormatError(`${file}: "${flat}" is no module of the model${didYouMean(flat, paths.keys())}`);
    if (other !== undefined) throw new FormatError(`${file}: "${flat}" may mean "${path}" or "${other}" of the model`);
    return path;
  };
}

function usualPath(file: string, flat: string): string {
  const outer = outerParts.find((path) => flatName(path) === flat);
  if (outer !== undefined) return outer;
  const [, layer, rest] = /^model_layers_(\d{1,5})_(.+)$/.exec(flat) ?? [];
  const part = layerParts.find((path) => flatName(path) === rest);
  if (layer !== undefined && part !== undefined) return `model.layers.${Number(layer)}.${part}`;
  throw new FormatError(`${file}: "${flat}" has _ for . and is not one of the usual names; the model tells what it means (--model)`);
}
