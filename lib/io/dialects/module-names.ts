import { didYouMean, FormatError } from '../../errors.js';

/** Parts of module paths that have a `_` themselves: of decoder language models, of the UNets of Stable Diffusion, of CLIP text encoders. */
const compounds = [
  'embed_tokens',
  'self_attn',
  'lm_head',
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'out_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
  'down_blocks',
  'mid_block',
  'up_blocks',
  'transformer_blocks',
  'proj_in',
  'proj_out',
  'to_q',
  'to_k',
  'to_v',
  'to_out',
  'time_emb_proj',
  'time_embedding',
  'add_embedding',
  'linear_1',
  'linear_2',
  'conv_in',
  'conv_out',
  'conv_shortcut',
  'text_model',
  'text_projection',
];
const singles =
  /^(\d{1,5}|model|layers|mlp|attentions|resnets|downsamplers|upsamplers|attn1|attn2|ff|net|proj|conv|conv1|conv2|encoder|fc1|fc2)$/;

const flatCompounds = compounds.map((name) => name.split('_')).sort((a, b) => b.length - a.length);

export const flatName = (path: string): string => path.replaceAll('.', '_');

/**
 * Turns names with `_` for `.` back into module paths: by the module names of a model where they are given, else by the usual names of decoder language
 * models, of Stable Diffusion's UNets and of CLIP text encoders. Throws `FormatError` for a name that fits no module or two of them.
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

/** The words of a name, the longest known part first; a word that no known network has is an error. */
function usualPath(file: string, flat: string): string {
  const words = flat.split('_');
  const parts: string[] = [];
  for (let i = 0; i < words.length; ) {
    const compound = flatCompounds.find((each) => each.every((word, j) => words[i + j] === word));
    const word = words[i] ?? '';
    if (compound === undefined && !singles.test(word))
      throw new FormatError(
        `${file}: "${flat}" has _ for . and is not one of the usual names (at "${word}"); the model tells what it means (--model)`,
      );
    parts.push(compound?.join('_') ?? word);
    i += compound?.length ?? 1;
  }
  return parts.join('.');
}
