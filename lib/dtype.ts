import type { DType } from './native-ops.js';

/** Bytes of one value. */
export const kDtypeBytes: Readonly<Record<DType, number>> = { f64: 8, f32: 4, bf16: 2, f16: 2, i64: 8, i32: 4, u8: 1, bool: 1 };
