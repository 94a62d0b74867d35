// Convolutions of torch in f64, with their gradients: test/golden/conv.safetensors.
import test from 'ava';
import { scope, type Tensor } from 'lorikeet';
import { type ConvOptions, conv1d, conv2d, type Pair } from 'lorikeet/ops';
import { loadSafetensors } from '#dist/io/safetensors.js';
import { relativeError } from '../helpers/adapters.js';

const options: Readonly<Record<string, ConvOptions<Pair>>> = {
  patches: { stride: 10 },
  stem: { stride: 2, padding: 3 },
  'same-dilated': { padding: 'same', dilation: [2, 3] },
  groups: { padding: [0, 1], groups: 2 },
  depthwise: { stride: [1, 2], padding: 1, groups: 5 },
  pointwise: {},
  conformer: { padding: 'same', groups: 6 },
  causal: { padding: 3, stride: 3 },
};

const golden = await loadSafetensors('test/golden/conv.safetensors');
const numbers = (value: Tensor | null | undefined): Float64Array => value?.dataSync() as Float64Array;

for (const [name, given] of Object.entries(options)) {
  test(`${name}: values and gradients of torch`, (t) => {
    const of = (key: string): Tensor => golden.get(`${name}.${key}`) as Tensor;
    scope(() => {
      const inputs = ['x', 'weight', 'bias'].map((key) => of(key).detach().setRequiresGrad(true)) as [Tensor, Tensor, Tensor];
      const y = inputs[0].shape.length === 4 ? conv2d(...inputs, given) : conv1d(...inputs, given as ConvOptions<number>);
      t.deepEqual(y.shape, of('y').shape);
      t.true(relativeError(numbers(y), numbers(of('y'))) < 1e-14);
      y.backward(of('dy'));
      for (const [i, key] of ['dx', 'dw', 'db'].entries()) {
        t.true(relativeError(numbers(inputs[i]?.grad), numbers(of(key))) < 1e-13, key);
      }
    });
  });
}
