import { FormatError } from '../../errors.js';
import type { GgufHeader, GgufTensor } from './parser.js';

/** A tensor of a GGUF file under its name in Hugging Face checkpoints. */
export interface NamedGgufTensor extends GgufTensor {
  /** The Hugging Face name; `name` stays the one in the file. */
  readonly hfName: string;
  /**
   * Number of heads whose rows are stored in interleaved rotary order, or 0 when the rows are in order. In a head of K rows, row 2 j + s of the file is
   * row s K / 2 + j of the checkpoint.
   */
  readonly interleavedHeads: number;
}

const outer: { readonly [stem: string]: string } = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};

const inner: { readonly [stem: string]: string } = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

/** Factors on rotary frequencies; they become part of the config. */
export const ropeFactorsName = 'rope_freqs.weight';

const pattern = /^(?:blk\.(\d{1,5})\.)?([a-z_]+)\.(weight|bias)$/;

/** The checkpoint name of a tensor of the llama, qwen2 and qwen3 family, or undefined when it has none. */
export function hfNameOf(ggufName: string): string | undefined {
  const [, layer, stem = '', kind] = pattern.exec(ggufName) ?? [];
  const table = layer === undefined ? outer : inner;
  if (!Object.hasOwn(table, stem)) return undefined;
  return layer === undefined ? `${table[stem]}.${kind}` : `model.layers.${Number(layer)}.${table[stem]}.${kind}`;
}

const outerStems = new Map(Object.entries(outer).map(([stem, path]) => [path, stem]));
const innerStems = new Map(Object.entries(inner).map(([stem, path]) => [path, stem]));

/** The name in GGUF files of a parameter of a checkpoint, or undefined when it has none. */
export function ggufNameOf(hfName: string): string | undefined {
  const [, path = '', kind] = /^(.+)\.(weight|bias)$/.exec(hfName) ?? [];
  const [, layer, part = ''] = /^model\.layers\.(\d{1,5})\.(.+)$/.exec(path) ?? [];
  const stem = layer === undefined ? outerStems.get(path) : innerStems.get(part);
  if (stem === undefined || kind === undefined) return undefined;
  return layer === undefined ? `${stem}.${kind}` : `blk.${Number(layer)}.${stem}.${kind}`;
}

/** Whether the rows of a parameter are stored in interleaved rotary order where the architecture does so. */
export const isRotated = (hfName: string): boolean => /\.self_attn\.[qk]_proj\.(weight|bias)$/.test(hfName);

/**
 * All tensors of the file by checkpoint name. `interleaved` gives the heads of q and k where the architecture stores them in interleaved order.
 * Throws `FormatError` for a tensor that the supported architectures do not have.
 */
export function namedTensors(
  header: GgufHeader,
  interleaved: { readonly heads: number; readonly kvHeads: number } | undefined,
): Map<string, NamedGgufTensor> {
  const named = new Map<string, NamedGgufTensor>();
  for (const tensor of header.tensors.values()) {
    if (tensor.name === ropeFactorsName) continue;
    const hfName = hfNameOf(tensor.name);
    if (hfName === undefined) {
      const what = /_exps|_shexp|ffn_gate_inp/.test(tensor.name)
        ? 'belongs to a mixture of experts, which is not supported'
        : 'is not known for this architecture';
      throw new FormatError(`${header.file}: tensor "${tensor.name}" ${what}`);
    }
    if (named.has(hfName)) throw new FormatError(`${header.file}: two tensors stand for "${hfName}"`);
    named.set(hfName, { ...tensor, hfName, interleavedHeads: interleavedHeads(tensor, hfName, interleaved, header.file) });
  }
  return named;
}

function interleavedHeads(
  tensor: GgufTensor,
  hfName: string,
  interleaved: { readonly heads: number; readonly kvHeads: number } | undefined,
  file: string,
): number {
  if (interleaved === undefined || !isRotated(hfName)) return 0;
  const heads = hfName.includes('.q_proj.') ? interleaved.heads : interleaved.kvHeads;
  const rows = tensor.shape[0] ?? 0;
  if (heads === 0 || rows % (2 * heads) !== 0) {
    throw new FormatError(`${file}: tensor "${tensor.name}" does not fit its heads; got ${rows} rows, expected a multiple of ${2 * heads}`);
  }
  return heads;
}
