import test from 'ava';
import type { Tensor } from 'lorikeet';
import { type AttentionOptions, attention, concat, expand, narrow, ones, tensor } from 'lorikeet/ops';
import { atEveryLevel, checkGradients, near, numbers, random, sameBits, withoutLeaks, withThreads } from '../helpers/products.js';

const make = (values: Float64Array, shape: readonly number[]): Tensor => tensor(values, { shape, dtype: 'f64' });

test('gradients against central differences in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const documents = tensor(Int32Array.from([0, 0, 0, 1, 1, 0, 1, 1, 1, 1]), { shape: [2, 5] });
      const keyMask = tensor(Uint8Array.from([1, 0, 1, 1, 1, 0, 0, 1, 1, 1]), { shape: [2, 5], dtype: 'bool' });
      const masks: AttentionOptions[] = [
        {},
        { causal: true, window: 3 },
        { causal: true, softcap: 1.5 },
        { keyLengths: [3, 0] },
        { causal: true, documents },
        { keyMask },
      ];
      for (const options of masks) {
        checkGradients(
          t,
          { q: random([2, 5, 4, 3], 'f64'), k: random([2, 5, 2, 3], 'f64'), v: random([2, 5, 2, 3], 'f64') },
          ({ q, k, v }) => attention(q as Tensor, k as Tensor, v as Tensor, options),
          make,
          `${level} ${Object.keys(options)}`,
        );
      }
      // Several tiles and key blocks.
      checkGradients(
        t,
        { q: random([1, 70, 1, 1], 'f64'), k: random([1, 66, 1, 1], 'f64'), v: random([1, 66, 1, 1], 'f64') },
        ({ q, k, v }) => attention(q as Tensor, k as Tensor, v as Tensor, { causal: true, queryOffset: 0 }),
        make,
        `${level} tiles`,
      );
    }),
  );
});

for (const width of [20, 8]) {
  test(`gradients in f32, bf16 and f16 follow those in f64, width ${width}`, (t) => {
    // delta = Σ dout · out is taken from the rounded output: its error is that of out, 2^-9 or 2^-12 relative, a few times over.
    const tolerance = { f32: 5e-6, bf16: 2 ** -6, f16: 2 ** -9 } as const;
    withoutLeaks(t, () =>
      atEveryLevel(t, (level) => {
        for (const dtype of ['f32', 'bf16', 'f16'] as const) {
          const inputs = [random([2, 70, 6, width], dtype), random([2, 90, 2, width], dtype), random([2, 90, 2, width], dtype)] as const;
          const weight = random([2, 70, 6, width], dtype);
          const gradients = (leaves: readonly Tensor[], dy: Tensor): Float64Array[] => {
            const [q, k, v] = leaves.map((x) => x.setRequiresGrad(true)) as [Tensor, Tensor, Tensor];
            attention(q, k, v, { causal: true, window: 50 }).backward(dy);
            return [q, k, v].map((x) => numbers(x.grad as Tensor));
          };
          const wide = gradients(
            inputs.map((x) => make(numbers(x), x.shape)),
            make(numbers(weight), weight.shape),
          );
          for (const [i, got] of gradients(inputs, weight).entries())
            near(t, got, wide[i] as Float64Array, tolerance[dtype], `${level} ${dtype} ${'qkv'[i]}`);
        }
      }),
    );
  });
}

test('only wanted gradients are computed, with the same bits', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const values = [random([1, 70, 2, 8]), random([1, 70, 1, 8]), random([1, 70, 1, 8])];
      const weight = random([1, 70, 2, 8]);
      const run = (wanted: readonly boolean[]): (Tensor | undefined)[] => {
        const leaves = values.map((x, i) => x.detach().setRequiresGrad(wanted[i] ?? false)) as [Tensor, Tensor, Tensor];
        attention(...leaves, { causal: true }).backward(weight);
        return leaves.map((x) => x.grad);
      };
      const all = run([true, true, true]);
      for (const wanted of [
        [true, false, false],
        [false, true, false],
        [false, false, true],
        [true, false, true],
      ]) {
        for (const [i, gradient] of run(wanted).entries()) {
          if (wanted[i]) t.true(sameBits(gradient as Tensor, all[i] as Tensor), `${level} ${wanted}`);
          else t.is(gradient, undefined);
        }
      }
    }),
  );
});

test('gradients have the same bits in any batch and with any number of threads', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const [dtype, width] of [
        ['f32', 12],
        ['f32', 8],
        ['bf16', 12],
      ] as const) {
        const single = [1, 2, 2, 1].map((share) => random([1, 150, 2 / share, width], dtype));
        const other = single.map((x) => random([2, ...x.shape.slice(1)], dtype));
        const run = (inputs: readonly Tensor[]): Tensor[] => {
          const [q, k, v, dy] = inputs.map((x, i) => x.detach().setRequiresGrad(i < 3)) as [Tensor, Tensor, Tensor, Tensor];
          const y = attention(q, k, v, { causal: true });
          y.backward(dy);
          return [y.detach(), ...[q, k, v].map((x) => x.grad as Tensor)];
        };
        const alone = withThreads(1, () => run(single).map((x) => (x.dataSync(), x)));
        const threaded = withThreads(3, () => run(single).map((x) => (x.dataSync(), x)));
        const batched = run(single.map((x, i) => concat([narrow(other[i] as Tensor, 0, 0, 1), x, narrow(other[i] as Tensor, 0, 1, 1)], 0)));
        for (const [i, x] of alone.entries()) {
          t.true(sameBits(x, threaded[i] as Tensor), `${level} ${dtype} ${width} threads ${i}`);
          t.true(sameBits(x, narrow(batched[i] as Tensor, 0, 1, 1)), `${level} ${dtype} ${width} batch ${i}`);
        }
      }
    }),
  );
});

test('large batches are taken in parts', (t) => {
  withoutLeaks(t, () => {
    // Two sums of 2500 x 64 f64 for each of 3 heads are 7.7 MB a row (4 queries are one tile, so one slice): 18 rows exceed the 64 MiB held at a time.
    const single = [random([1, 4, 3, 64], 'f64'), random([1, 2500, 3, 64], 'f64'), random([1, 2500, 3, 64], 'f64')] as const;
    const run = (rows: number): Tensor[] => {
      const leaves = single.map((x) =>
        expand(x, [rows, ...x.shape.slice(1)])
          .detach()
          .setRequiresGrad(true),
      ) as [Tensor, Tensor, Tensor];
      attention(...leaves).backward(ones([rows, 4, 3, 64], { dtype: 'f64' }));
      return leaves.map((x) => x.grad as Tensor);
    };
    const alone = run(1);
    for (const [i, many] of run(18).entries()) {
      for (const row of [0, 8, 17]) t.true(sameBits(narrow(many, 0, row, 1), alone[i] as Tensor), `${'qkv'[i]} row ${row}`);
    }
  });
});
