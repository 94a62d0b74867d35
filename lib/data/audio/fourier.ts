/** Squared magnitudes of the discrete Fourier transform of real frames, in double precision. */
export class PowerSpectrum {
  readonly #size: number;
  readonly #cos: Float64Array;
  readonly #sin: Float64Array;
  readonly #order: Uint32Array;
  readonly #real: Float64Array;
  readonly #imaginary: Float64Array;

  /** `size`, a power of two, is the length of the transform; shorter frames are padded with zeros. */
  constructor(size: number) {
    this.#size = size;
    this.#cos = Float64Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.#sin = Float64Array.from({ length: size / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / size));
    const bits = Math.log2(size);
    this.#order = Uint32Array.from({ length: size }, (_, i) => reversed(i, bits));
    this.#real = new Float64Array(size);
    this.#imaginary = new Float64Array(size);
  }

  /** Fills `power` with the first bins of the spectrum of a frame. */
  of(frame: Float64Array, power: Float64Array): void {
    const real = this.#real;
    const imaginary = this.#imaginary;
    for (let i = 0; i < this.#size; i++) real[i] = frame[this.#order[i] as number] ?? 0;
    imaginary.fill(0);
    for (let half = 1; half < this.#size; half *= 2) this.#combine(half);
    for (let i = 0; i < power.length; i++) power[i] = (real[i] as number) ** 2 + (imaginary[i] as number) ** 2;
  }

  /** Transforms of length `half` to those of twice the length. */
  #combine(half: number): void {
    const real = this.#real;
    const imaginary = this.#imaginary;
    const stride = this.#size / (2 * half);
    for (let start = 0; start < this.#size; start += 2 * half)
      for (let k = 0; k < half; k++) {
        const [c, s] = [this.#cos[k * stride] as number, this.#sin[k * stride] as number];
        const [low, high] = [start + k, start + k + half];
        const [x, y] = [real[high] as number, imaginary[high] as number];
        const [turnedX, turnedY] = [x * c - y * s, x * s + y * c];
        const [lowX, lowY] = [real[low] as number, imaginary[low] as number];
        real[low] = lowX + turnedX;
        imaginary[low] = lowY + turnedY;
        real[high] = lowX - turnedX;
        imaginary[high] = lowY - turnedY;
      }
  }
}

function reversed(value: number, bits: number): number {
  let result = 0;
  for (let bit = 0; bit < bits; bit++) result |= ((value >> bit) & 1) << (bits - 1 - bit);
  return result;
}
