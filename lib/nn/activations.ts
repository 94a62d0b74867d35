import { clamp, gelu, geluTanh, maximum, mul, relu, sigmoid, silu, softplus, square, tanh } from '../ops/elementwise.js';
import type { Tensor } from '../tensor.js';

export type Activation = (x: Tensor) => Tensor;

const linear: Activation = (x) => x;

/** Element-wise activations by the names they have in published configs. */
export const activations: Readonly<Record<string, Activation>> = {
  tanh,
  relu,
  relu2: (x) => square(relu(x)),
  relu6: (x) => clamp(x, 0, 6),
  leaky_relu: (x) => maximum(x, mul(x, 0.01)),
  gelu,
  gelu_python: gelu,
  gelu_tanh: geluTanh,
  gelu_new: geluTanh,
  gelu_fast: geluTanh,
  gelu_accurate: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  quick_gelu: (x) => mul(x, sigmoid(mul(x, 1.702))),
  silu,
  swish: silu,
  sigmoid,
  mish: (x) => mul(x, tanh(softplus(x))),
  linear,
  identity: linear,
};

/** Whether an activation leaves its input as it is. */
export const isIdentity = (name: string): boolean => activations[name] === linear;
