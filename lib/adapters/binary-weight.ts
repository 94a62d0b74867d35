import { AdapterError } from '../errors.js';
import { Module } from '../nn/module.js';
import { zeros } from '../ops/create.js';
import { fakeQuantize, type SignBits, type SignTensor, signQuantize, signUnpack } from '../ops/sign.js';
import { keep, noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { BinaryBits } from './binary-config.js';

/** A matrix [N, K] of few bits a weight: what an adapter computes with, and what is stored of it. */
export abstract class BinaryWeight extends Module {
  abstract readonly shape: readonly number[];
  /** The values that products see, on the tape where they are trained. */
  abstract values(): Tensor;
  /** Codes, mean and deviation; undefined for 32 bits, which have none. In the enclosing scope, or the module's own. */
  abstract codes(): SignTensor | undefined;
  /** The weights that are trained. Throws `AdapterError` where there are codes alone. */
  abstract master(): Tensor;
}

/** A matrix that trains in f32, and is quantised anew in every pass. */
export class MasterWeight extends BinaryWeight {
  weight: Tensor;
  readonly #bits: BinaryBits;
  readonly #name: string;

  /** Takes `weight` over; `name` is what errors call it. */
  constructor(weight: Tensor, bits: BinaryBits, name: string) {
    super();
    this.weight = weight.setRequiresGrad(true);
    this.#bits = bits;
    this.#name = name;
  }

  override get shape(): readonly number[] {
    return this.weight.shape;
  }

  override values(): Tensor {
    return this.#bits === 32 ? this.weight : fakeQuantize(this.weight, { bits: this.#bits, name: this.#name });
  }

  override codes(): SignTensor | undefined {
    return this.#bits === 32 ? undefined : signQuantize(this.weight, { bits: this.#bits, name: this.#name });
  }

  override master(): Tensor {
    return this.weight;
  }
}

/** A matrix of which only its codes are there. */
export class StoredWeight extends BinaryWeight {
  override readonly shape: readonly number[];
  /** u8 [ceil(N K bits / 8)]. */
  qweight: Tensor;
  /** f32 [2]: mean and deviation. */
  qmeta: Tensor;
  readonly #bits: SignBits;
  readonly #name: string;
  #unpacked: { readonly value: Tensor; readonly versions: string } | undefined;

  /** Zeros, to be filled from a file. */
  constructor(shape: readonly [number, number], bits: SignBits, name: string) {
    super();
    this.shape = shape;
    this.#bits = bits;
    this.#name = name;
    this.qweight = unscoped(() => zeros([Math.ceil((shape[0] * shape[1] * bits) / 8)], { dtype: 'u8' }));
    this.qmeta = unscoped(() => zeros([2]));
  }

  /** Unpacked on first use, and again after the codes have changed. */
  override values(): Tensor {
    const versions = `${this.qweight.version} ${this.qmeta.version}`;
    if (this.#unpacked?.versions !== versions) {
      this.#unpacked?.value.dispose();
      this.#unpacked = { value: scope(() => keep(noGrad(() => signUnpack(this.codes())))), versions };
    }
    return this.#unpacked.value;
  }

  override codes(): SignTensor {
    return { bits: this.#bits, shape: this.shape, codes: this.qweight, meta: this.qmeta };
  }

  override master(): Tensor {
    throw new AdapterError(`save: "${this.#name}" was loaded as codes and has no weights to train; expected form "published"`);
  }

  override dispose(): void {
    super.dispose();
    this.#unpacked?.value.dispose();
  }
}
