import { ConfigError, InvalidArgumentError } from '../errors.js';
import { rope } from '../ops/attention.js';
import { tensor } from '../ops/create.js';
import { unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';

/** Rotary position settings, gathered from a published config by `readRope` (models/config.ts) or written by hand. Lengths are in tokens. */
export interface RopeParameters {
  readonly type: 'default' | 'linear' | 'dynamic' | 'llama3' | 'yarn';
  /** Base of the wavelengths. */
  readonly theta: number;
  /** Width K of a head; even. */
  readonly headWidth: number;
  /** `max_position_embeddings` of the model. */
  readonly maxPositions: number;
  /** How many times the context is stretched; all types but `default`. */
  readonly factor?: number;
  /** Context of the model before stretching; default `maxPositions`. `llama3` and `yarn`. */
  readonly originalMaxPositions?: number;
  /** `llama3`: wavelengths longer than original / low are stretched, those shorter than original / high are not. */
  readonly lowFrequencyFactor?: number;
  readonly highFrequencyFactor?: number;
  /** `yarn`: rotations within the original context that bound the ramp; defaults 32 and 1. */
  readonly betaFast?: number;
  readonly betaSlow?: number;
  /** `yarn`: scale of cos and sin; default from `factor`, `mscale` and `mscaleAllDim`. */
  readonly attentionFactor?: number;
  readonly mscale?: number;
  readonly mscaleAllDim?: number;
  /** `yarn`: whether the bounds of the ramp are whole numbers; default true. */
  readonly truncate?: boolean;
}

/** What `rope` needs: cos and sin f32 [P, K/2], and the row of each token in them, i64 [B, T]. */
export interface RotaryTables {
  readonly cos: Tensor;
  readonly sin: Tensor;
  readonly positions: Tensor;
}

/** Rotates x [B, T, H, K] by the tables of the context. */
export function rotate(x: Tensor, { rotary }: ForwardContext): Tensor {
  if (rotary === undefined)
    throw new InvalidArgumentError('rope: the forward context has no rotary tables; run the layer through its model');
  return rope(x, rotary.cos, rotary.sin, rotary.positions);
}

/** Angle per position of each of the K/2 pairs, and the factor on cos and sin. */
export interface RotaryFrequencies {
  readonly frequencies: Float64Array;
  readonly scale: number;
}

const plain = (theta: number, width: number): Float64Array =>
  Float64Array.from({ length: width / 2 }, (_, i) => theta ** ((-2 * i) / width));

/** "Scaling context by longer wavelengths": those beyond the original context are stretched, those well within it kept, a blend between. */
function llama3(p: RopeParameters, factor: number): Float64Array {
  const low = needed(p, 'lowFrequencyFactor');
  const high = needed(p, 'highFrequencyFactor');
  const original = p.originalMaxPositions ?? p.maxPositions;
  return plain(p.theta, p.headWidth).map((frequency) => {
    const rotations = (original * frequency) / (2 * Math.PI);
    if (rotations < low) return frequency / factor;
    if (rotations > high) return frequency;
    const keep = (rotations - low) / (high - low);
    return ((1 - keep) * frequency) / factor + keep * frequency;
  });
}

/** YaRN: Efficient Context Window Extension of Large Language Models. */
function yarn(p: RopeParameters, factor: number): RotaryFrequencies {
  const width = p.headWidth;
  const original = p.originalMaxPositions ?? p.maxPositions;
  const pairOf = (rotations: number): number => (width * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(p.theta));
  const whole = p.truncate ?? true;
  let from = pairOf(p.betaFast || 32);
  let to = pairOf(p.betaSlow || 1);
  if (whole) [from, to] = [Math.floor(from), Math.ceil(to)];
  from = Math.max(from, 0);
  to = Math.min(to, width - 1);
  if (from === to) to += 0.001;
  const frequencies = plain(p.theta, width).map((frequency, i) => {
    const stretched = Math.min(Math.max((i - from) / (to - from), 0), 1);
    return (frequency / factor) * stretched + frequency * (1 - stretched);
  });
  const temperature = (mscale: number): number => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  const inferred = p.mscale && p.mscaleAllDim ? temperature(p.mscale) / temperature(p.mscaleAllDim) : temperature(1);
  return { frequencies, scale: p.attentionFactor ?? inferred };
}

function needed(p: RopeParameters, key: 'factor' | 'lowFrequencyFactor' | 'highFrequencyFactor'): number {
  const value = p[key];
  if (value === undefined) throw new ConfigError(`rope: type "${p.type}" needs ${key}; got none`);
  return value;
}

/** The frequencies for a sequence of `length` tokens; only type `dynamic` depends on it. Throws `ConfigError` for a type it does not know or a missing factor. */
export function rotaryFrequencies(p: RopeParameters, length = p.maxPositions): RotaryFrequencies {
  switch (p.type) {
    case 'default':
      return { frequencies: plain(p.theta, p.headWidth), scale: 1 };
    case 'linear': {
      const factor = needed(p, 'factor');
      return { frequencies: plain(p.theta, p.headWidth).map((f) => f / factor), scale: 1 };
    }
    case 'dynamic': {
      const factor = needed(p, 'factor');
      const stretch = (factor * Math.max(length, p.maxPositions)) / p.maxPositions - (factor - 1);
      return { frequencies: plain(p.theta * stretch ** (p.headWidth / (p.headWidth - 2)), p.headWidth), scale: 1 };
    }
    case 'llama3':
      return { frequencies: llama3(p, needed(p, 'factor')), scale: 1 };
    case 'yarn':
      return yarn(p, needed(p, 'factor'));
    default:
      throw new ConfigError(`rope: unknown type "${String(p.type satisfies never)}"; known are default, linear, dynamic, llama3, yarn`);
  }
}

/** Tokens that fit with these settings: `maxPositions`, or what stretching makes of the original context where that is more. */
export function contextLengthOf(p: RopeParameters): number {
  const factor = p.type === 'linear' || p.type === 'dynamic' || p.type === 'yarn' ? (p.factor ?? 1) : 1;
  const original = p.type === 'dynamic' ? p.maxPositions : (p.originalMaxPositions ?? p.maxPositions);
  return Math.max(p.maxPositions, Math.floor(factor * original));
}

/** cos and sin under construction, row-major [P, K/2]. */
class Angles {
  readonly #cos: Float32Array;
  readonly #sin: Float32Array;
  readonly #shape: [number, number];

  constructor(rows: number, half: number) {
    this.#cos = new Float32Array(rows * half);
    this.#sin = new Float32Array(rows * half);
    this.#shape = [rows, half];
  }

  /** Writes the angles of one position. Frequencies are rounded to f32, as published models were trained with them. */
  set(row: number, position: number, { frequencies, scale }: RotaryFrequencies): void {
    const half = this.#shape[1];
    for (let i = 0; i < half; i++) {
      const angle = position * Math.fround(frequencies[i] ?? 0);
      this.#cos[row * half + i] = Math.cos(angle) * scale;
      this.#sin[row * half + i] = Math.sin(angle) * scale;
    }
  }

  tensors(): { cos: Tensor; sin: Tensor } {
    return { cos: tensor(this.#cos, { shape: this.#shape }), sin: tensor(this.#sin, { shape: this.#shape }) };
  }
}

/** Where the tokens of a batch stand, by row and token. */
export interface TokenPlaces {
  /** Position of each token in its sequence. */
  readonly positions: readonly (readonly number[])[];
  /** Length of the sequence that each token is part of, as far as it is known by now. */
  readonly spans: readonly (readonly number[])[];
}

/** Makes and keeps the rotary tables of one model. Owns its tensors. */
export class RotaryEmbedding {
  readonly parameters: RopeParameters;
  #kept: { readonly cos: Tensor; readonly sin: Tensor } | undefined;
  #rows = 0;

  constructor(parameters: RopeParameters) {
    if (!Number.isInteger(parameters.headWidth) || parameters.headWidth <= 0 || parameters.headWidth % 2 !== 0) {
      throw new ConfigError(`rope: the head width must be even and positive; got ${parameters.headWidth}`);
    }
    this.parameters = parameters;
    rotaryFrequencies(parameters);
  }

  /**
   * Tables for a batch; `positions` i64 [B, T] is `places.positions` padded with zeros. With type `dynamic` a token's angles depend on the length of its own
   * sequence, never on its neighbours in the batch. The tables have rows for the first `room` positions at least, so that the tokens to come find theirs in the same memory.
   */
  tables(positions: Tensor, places: TokenPlaces, room = 0): RotaryTables {
    const { type, maxPositions } = this.parameters;
    const stretched = (): boolean => room > maxPositions || places.spans.some((row) => row.some((span) => span > maxPositions));
    if (type === 'dynamic' && stretched()) return this.#byToken(positions, places);
    const rows = places.positions.reduce((most, row) => row.reduce((a, b) => Math.max(a, b + 1), most), Math.max(room, 1));
    if (this.#kept === undefined || rows > this.#rows) this.#grow(rows);
    return { ...(this.#kept as { cos: Tensor; sin: Tensor }), positions };
  }

  #grow(rows: number): void {
    let capacity = Math.max(this.#rows, 256);
    while (capacity < rows) capacity *= 2;
    const angles = new Angles(capacity, this.parameters.headWidth / 2);
    const frequencies = rotaryFrequencies(this.parameters);
    for (let position = 0; position < capacity; position++) angles.set(position, position, frequencies);
    this.dispose();
    this.#kept = unscoped(() => angles.tensors());
    this.#rows = capacity;
  }

  /** One table row a token. */
  #byToken(positions: Tensor, places: TokenPlaces): RotaryTables {
    const [batch = 0, width = 0] = positions.shape;
    const angles = new Angles(batch * width, this.parameters.headWidth / 2);
    let span = -1;
    let frequencies = rotaryFrequencies(this.parameters);
    for (const [b, row] of places.positions.entries()) {
      for (const [t, position] of row.entries()) {
        const own = places.spans[b]?.[t] ?? 0;
        if (own !== span) frequencies = rotaryFrequencies(this.parameters, own);
        span = own;
        angles.set(b * width + t, position, frequencies);
      }
    }
    const rows = BigInt64Array.from({ length: batch * width }, (_, i) => BigInt(i));
    return { ...angles.tensors(), positions: tensor(rows, { shape: [batch, width] }) };
  }

  dispose(): void {
    this.#kept?.cos.dispose();
    this.#kept?.sin.dispose();
    this.#kept = undefined;
    this.#rows = 0;
  }
}
