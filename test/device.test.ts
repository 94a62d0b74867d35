import test from 'ava';
import { DeviceError, devices } from 'lorikeet';
import { exp, tensor, toDevice, zeros } from 'lorikeet/ops';

const cuda = devices().find((entry) => entry.device === 'cuda');
const onGpu = cuda?.available ? test : test.skip;
const withoutGpu = cuda?.available ? test.skip : test;
console.log(cuda?.available ? `cuda: ${cuda.detail}` : `cuda tests are skipped: ${cuda?.detail}`);

test('the cpu is always there and says what it is', (t) => {
  const cpu = devices()[0];
  t.true(cpu?.available);
  t.regex(cpu?.detail ?? '', /\d+ threads, (scalar|avx2|avx512|avx512-bf16|amx-bf16|neon) kernels/);
});

withoutGpu('asking for cuda without it is an error that says why', (t) => {
  const error = t.throws(() => zeros([2], { device: 'cuda' }), { instanceOf: DeviceError });
  t.regex(error.message, /^device: cuda cannot be used here; /);
  t.true(error.message.includes(cuda?.detail ?? '?'));
});

onGpu('unary ops on cuda equal those on the cpu, forward and backward', async (t) => {
  const values = Float32Array.from({ length: 1000 }, (_, i) => (i - 500) / 100);
  const here = tensor(values).setRequiresGrad(true);
  const there = toDevice(tensor(values), 'cuda').setRequiresGrad(true);
  const expected = await exp(here).data();
  const onDevice = exp(there);
  const actual = await onDevice.data();
  for (let i = 0; i < values.length; i++) {
    t.true(Math.abs(Number(actual[i]) - Number(expected[i])) <= 1e-5 * Math.abs(Number(expected[i])));
  }
  onDevice.backward(toDevice(tensor(values), 'cuda'));
  const gradient = await there.grad?.data();
  for (let i = 0; i < values.length; i++) {
    const wanted = Number(expected[i]) * (values[i] as number);
    t.true(Math.abs(Number(gradient?.[i]) - wanted) <= 1e-5 * Math.abs(wanted) + 1e-30);
  }
});
