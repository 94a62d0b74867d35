import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PackedWeight } from 'lorikeet/ops';
import type { GgufHeader } from '#dist/io/gguf/parser.js';
import { ggufType } from '#dist/io/gguf/types.js';
import { ggufWeights } from '#dist/io/weights.js';
import type { DType } from '#dist/tensor.js';

const ids: Readonly<Record<string, number>> = { q4_0: 2, q4_1: 3, q5_0: 6, q5_1: 7, q8_0: 8, q4_k: 12, q5_k: 13, q6_k: 14 };

/** A weight [n, k] of random GGUF blocks of a format; only its speed means anything. */
export function randomBlocks(format: string, n: number, k: number, dtype: DType): PackedWeight {
  const type = ggufType(ids[format] ?? -1);
  if (type === undefined)
    throw new Error(`bench: unknown format "${format}"; expected nf4, nf4-double, int8 or one of ${Object.keys(ids).join(', ')}`);
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-bench-'));
  try {
    const file = join(folder, 'blocks');
    // Without the upper bit of exponents, so that no product is slowed by infinities.
    const bytes = randomBytes(((n * k) / type.blockSize) * type.typeSize).map((byte) => byte & 0x3b);
    writeFileSync(file, bytes);
    const header = { file, fileBytes: bytes.length } as GgufHeader;
    const tensor = { name: 'w', hfName: 'w', shape: [n, k], type, start: 0, bytes: bytes.length, interleavedHeads: 0 };
    const weight = ggufWeights(header, new Map([['w', tensor]])).loadBlocks?.('w', dtype) as PackedWeight;
    weight.unpack().dataSync();
    return weight;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
