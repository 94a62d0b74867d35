import { Module } from '../nn/module.js';
import { Copies, CopiesApart, type ExpertMerge, type ExpertValues, OwnValues, OwnValuesApart } from './expert-values.js';
import type { Affine, AffineParameters } from './sublayer-bottleneck.js';

/** How the product of a bottleneck or a low-rank pair is split. */
export interface AffineSplit {
  readonly experts: number;
  readonly merge: ExpertMerge;
  /** `replicate`: each expert has a whole bias; `split`: each owns some of its entries. */
  readonly biasMode: 'replicate' | 'split';
  /** Whether an optimizer leaves experts alone that did not run in a step. */
  readonly skipInactive: boolean;
  readonly seed: number;
  /** Number of the random sequence of an owner map by name. */
  readonly stream: (name: string) => number;
  /** Whether the weight does not start at zero. */
  readonly keepsStart: boolean;
}

/** A product in n versions. */
export class SplitAffine extends Module {
  readonly weight: ExpertValues;
  readonly bias?: ExpertValues;
  readonly #merge: ExpertMerge;

  /** Takes the tensors over: a weight, and a bias that is zero. */
  constructor({ weight, bias }: Affine, split: AffineSplit) {
    super();
    const { experts, seed, stream, skipInactive, keepsStart } = split;
    const Own = skipInactive ? OwnValuesApart : OwnValues;
    this.#merge = split.merge;
    this.weight = new Own(weight, { experts, seed, stream: stream('weight.owner'), keepsStart });
    if (bias === undefined) return;
    if (split.biasMode === 'split') {
      this.bias = new Own(bias, { experts, seed, stream: stream('bias.owner'), keepsStart: false });
      return;
    }
    this.bias = new (skipInactive ? CopiesApart : Copies)(experts, bias);
    bias.dispose();
  }

  expert(index: number): Affine {
    return both(this.weight.expert(index), this.bias?.expert(index));
  }

  merged(): Affine {
    return both(this.weight.merged(this.#merge), this.bias?.merged(this.#merge));
  }
}

const both = (weight: Affine['weight'], bias: Affine['bias']): Affine => (bias === undefined ? { weight } : { weight, bias });

/** A product as it is for every pass, or in n versions. */
export type MaybeSplit = SplitAffine | AffineParameters;

/** The version of a pass. */
export const versionOf = (product: MaybeSplit, index: number): Affine => (product instanceof SplitAffine ? product.expert(index) : product);

/** All versions in one. */
export const mergedOf = (product: MaybeSplit): Affine => (product instanceof SplitAffine ? product.merged() : product);
