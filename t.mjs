import * as ops from 'lorikeet/ops';
import { scope, synchronize, memory } from 'lorikeet';
const x = ops.normal([1024, 2048]), u = ops.normal([1024, 2048], { seed: 3 }), w = ops.normal([2048]);
for (const [name, fn] of [['add', () => ops.add(x, u)], ['rms', () => ops.rmsNorm(x, w)], ['silu', () => ops.silu(x)], ['swiglu', () => ops.swiGlu(x, u)], ['dropout', () => ops.dropout(x, 0.1)], ['topk', () => ops.topK(x, 50)]]) {
  const ts = [];
  for (let i = 0; i < 12; i++) { await synchronize(); const t = performance.now(); scope(() => { fn(); }); await synchronize(); ts.push((performance.now() - t).toFixed(2)); }
  console.log(name, ts.join(' '), memory().cachedBytes / 2 ** 20);
}
