import { FormatError } from '../../errors.js';
import type { Dialect } from './portable.js';

/** What a file is taken for, and a tensor name that says so. */
export interface DetectedDialect {
  readonly dialect: Exclude<Dialect, 'gguf'>;
  readonly evidence: string;
}

const signs: readonly { readonly dialect: DetectedDialect['dialect']; readonly pattern: RegExp }[] = [
  {
    dialect: 'kohya',
    pattern: /^lora_(unet|te\d?|transformer)_.+\.(lora_(down|up|mid)\.weight|alpha|dora_scale|hada_.*|lokr_.*|diff(_b)?)$/,
  },
  { dialect: 'mlx', pattern: /\.lora_[ab]$/ },
  { dialect: 'peft', pattern: /^base_model\.model\./ },
  {
    dialect: 'diffusers',
    pattern:
      /^(unet|transformer|text_encoder(_\d)?)\..+(\.lora_[AB]\.weight|([._]lora|\.lora_linear_layer)\.(down|up)\.weight|\.alpha|\.lora_magnitude_vector)$/,
  },
  { dialect: 'peft', pattern: /\.(lora_[AB]\.weight|lora_embedding_[AB])$/ },
];

/**
 * Tells the dialect of a LoRA file from its tensor names. A name that fits none of the dialects, or names of two of them, are a `FormatError` that quotes what
 * was seen.
 */
export function detectDialect(file: string, names: Iterable<string>): DetectedDialect {
  const seen = new Map<DetectedDialect['dialect'], string>();
  let strange: string | undefined;
  for (const name of names) {
    const sign = signs.find(({ pattern }) => pattern.test(name));
    if (sign === undefined) strange ??= name;
    else if (!seen.has(sign.dialect)) seen.set(sign.dialect, name);
  }
  const [first, second] = seen;
  if (first === undefined) {
    const what = strange === undefined ? 'no tensors' : `names such as "${strange}"`;
    throw new FormatError(`${file}: is no LoRA adapter of a known dialect; got ${what}, expected those of peft, kohya, mlx or diffusers`);
  }
  if (second !== undefined)
    throw new FormatError(`${file}: mixes two dialects; got "${first[1]}" (${first[0]}) and "${second[1]}" (${second[0]}), expected one`);
  return { dialect: first[0], evidence: first[1] };
}
