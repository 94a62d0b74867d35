import { ConfigError } from '../errors.js';
import { type Activation, activations } from '../nn/activations.js';
import { parameter, uniformParameter } from '../nn/init.js';
import { Module } from '../nn/module.js';
import { LayerNorm } from '../nn/norm.js';
import type { SublayerCall, SublayerPoint } from '../nn/sublayer.js';
import { zeros } from '../ops/create.js';
import { dropout } from '../ops/dropout.js';
import { add, cast, mul } from '../ops/elementwise.js';
import { linear } from '../ops/linalg.js';
import { RandomSource } from '../random.js';
import { type DType, Tensor } from '../tensor.js';
import { AdapterModule, type CreateContext, type Target } from './adapter.js';

/** What a bottleneck may do between its two products. `gelu` is the exact one. */
export type BottleneckActivation = 'relu' | 'gelu' | 'gelu_tanh' | 'silu' | 'tanh' | 'none';

/** A weight [N, K] and a bias [N]. */
export interface Affine {
  readonly weight: Tensor;
  readonly bias?: Tensor;
}

/** Parameters of one product of a bottleneck. */
export class AffineParameters extends Module implements Affine {
  weight: Tensor;
  bias?: Tensor;

  constructor(weight: Tensor, bias?: Tensor) {
    super();
    this.weight = weight;
    if (bias !== undefined) this.bias = bias;
  }
}

export interface BottleneckOptions {
  readonly activation: BottleneckActivation;
  /** Factor of the result, or a trained one, [1]. Default 1. */
  readonly scale?: number | Tensor;
  /** Probability of dropping an element behind the activation in training. Default 0. */
  readonly dropout?: number;
  /** Adds this to the variance in a layer norm of its own in front of the first product; absent: no such norm. */
  readonly normEpsilon?: number;
}

/** Passes of a bottleneck draw their dropout masks from `random`. */
export interface BottleneckPass {
  readonly training: boolean;
  readonly random: RandomSource;
  /** Tokens of each row, i64 [B]; absent: all are. What lies behind them is padding. */
  readonly keyLengths?: Tensor;
}

/** Something small that maps [.., D] to [.., D] beside a sub-layer. */
export abstract class Branch extends Module {
  abstract forward(x: Tensor, pass: BottleneckPass): Tensor;
}

/**
 * scale * (drop(act(norm(x) Wdᵀ + bd)) Wuᵀ + bu), with `norm`, `down` (Wd [M, D], bd [M]), `up` (Wu [D, M], bu [D]) and a learned `scale` [1] as its parameters. The
 * result has the dtype of x; it is computed in that of the parameters.
 */
export abstract class BottleneckBranch extends Branch {
  readonly norm?: LayerNorm;
  readonly scale?: Tensor;
  readonly #options: BottleneckOptions;
  readonly #activation: Activation;

  constructor(width: number, dtype: DType, options: BottleneckOptions) {
    super();
    this.#options = options;
    this.#activation = activations[options.activation === 'none' ? 'identity' : options.activation] as Activation;
    if (options.scale instanceof Tensor) this.scale = options.scale;
    if (options.normEpsilon !== undefined) this.norm = new LayerNorm(width, { epsilon: options.normEpsilon, dtype });
  }

  /** The two products of one pass. */
  protected abstract products(pass: BottleneckPass): { readonly down: Affine; readonly up: Affine };

  override forward(x: Tensor, pass: BottleneckPass): Tensor {
    const { dropout: p = 0 } = this.#options;
    const scale = this.scale ?? this.#options.scale ?? 1;
    const { down, up } = this.products(pass);
    const wide = cast(x, down.weight.dtype);
    const hidden = this.#activation(linear(this.norm?.forward(wide) ?? wide, down.weight, down.bias));
    const dropped = pass.training && p > 0 ? dropout(hidden, p, pass.random.next()) : hidden;
    const y = linear(dropped, up.weight, up.bias);
    return cast(scale === 1 ? y : mul(y, scale), x.dtype);
  }
}

/** A bottleneck whose two products are plain parameters. */
export class Bottleneck extends BottleneckBranch {
  readonly down: AffineParameters;
  readonly up: AffineParameters;

  /** Takes the tensors over. */
  constructor(down: AffineParameters, up: AffineParameters, options: BottleneckOptions) {
    super(up.weight.shape[0] as number, up.weight.dtype, options);
    this.down = down;
    this.up = up;
  }

  protected override products(): { down: Affine; up: Affine } {
    return this;
  }
}

/**
 * Starting values of a bottleneck of `width` numbers on a stream of `streamWidth`: Wd uniform within 1 / sqrt(D), the others zero, so that it starts as the
 * identity beside its sub-layer.
 */
export function bottleneckStart(
  streamWidth: number,
  width: number,
  { dtype, seed, stream }: Pick<CreateContext, 'dtype' | 'seed' | 'stream'>,
  path: string,
): { down: AffineParameters; up: AffineParameters } {
  const zero = (...shape: number[]): Tensor => parameter(() => zeros(shape, { dtype }));
  const weight = uniformParameter([width, streamWidth], 1 / Math.sqrt(streamWidth), { dtype, seed }, stream(path, 'down'));
  return {
    down: new AffineParameters(weight, zero(width)),
    up: new AffineParameters(zero(streamWidth, width), zero(streamWidth)),
  };
}

/**
 * What a branch a reads around a sub-layer S of a block, with n the input of S and h the residual stream that its result is added to:
 * `input` S(n) + a(n), `residual` S(n) + a(h), `output` S(n) + a(S(n)), `sum` S(n) + a(h + S(n)).
 */
export type BranchSource = 'input' | 'residual' | 'output' | 'sum';

/** What a block adds to its stream in place of the result of a sub-layer, made with a branch a. */
export type BranchForm = (a: (x: Tensor) => Tensor, call: SublayerCall) => Tensor;

/** S(n) + a of what `read` gives of the call and of S(n). */
const beside =
  (read: (call: SublayerCall, y: Tensor) => Tensor): BranchForm =>
  (a, call) => {
    const y = call.next(call.input);
    return add(y, a(read(call, y)));
  };

const forms: Readonly<Record<BranchSource, BranchForm>> = {
  input: beside(({ input }) => input),
  residual: beside(({ residual }) => residual),
  output: beside((_, y) => y),
  sum: beside(({ residual }, y) => add(residual, y)),
};

/** Branches around the attention and the MLP of one block. Their parameters are `adapter_attention` and `adapter_mlp` of the block in a checkpoint. */
export class SublayerBranches<B extends Branch = Branch> extends AdapterModule {
  readonly adapter_attention?: B;
  readonly adapter_mlp?: B;
  override readonly random: RandomSource;
  readonly #form: BranchForm;
  #strength = 1;

  constructor(branches: { readonly attention?: B; readonly mlp?: B }, form: BranchSource | BranchForm, seed: number, path: string) {
    super();
    if (branches.attention !== undefined) this.adapter_attention = branches.attention;
    if (branches.mlp !== undefined) this.adapter_mlp = branches.mlp;
    this.#form = typeof form === 'string' ? forms[form] : form;
    this.random = new RandomSource(seed, path);
  }

  branch(point: SublayerPoint): B | undefined {
    return point === 'attention' ? this.adapter_attention : this.adapter_mlp;
  }

  override setScale(factor: number): void {
    this.#strength = factor;
  }

  override sublayer(call: SublayerCall): Tensor {
    const branch = this.branch(call.point);
    if (branch === undefined) return call.next(call.input);
    const { training, keyLengths } = call.context;
    const pass = { training, random: this.random, ...(keyLengths && { keyLengths }) };
    const a = (x: Tensor): Tensor => {
      const change = branch.forward(x, pass);
      return this.#strength === 1 ? change : mul(change, this.#strength);
    };
    return this.#form(a, call);
  }
}

/** D of the residual stream of a block: what its query projection reads. Throws `ConfigError` that begins with `method` for a block without one. */
export function streamWidth(method: string, { path, layer }: Pick<Target, 'path' | 'layer'>): number {
  for (const [, module] of layer.role === 'block' ? layer.namedModules() : []) {
    const width = module.role === 'attention.query' ? module.parameterShapes().weight?.[1] : undefined;
    if (width !== undefined) return width;
  }
  throw new ConfigError(`${method}: "${path}" is not a block of attention and MLP; expected targets with the role "block"`);
}
