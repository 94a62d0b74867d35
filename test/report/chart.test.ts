import test from 'ava';
import { type Chart, renderChart } from '#dist/report/chart.js';
import { formatNumber, linearScale, logScale } from '#dist/report/scale.js';
import { sampled, smoothed, thin } from '#dist/report/series.js';

const wave = Array.from({ length: 5000 }, (_, index) => [index + 1, Math.sin(index / 50)] as const);

test('thinning keeps the order, every spike, and drops what is not finite', (t) => {
  const spiked = wave.map(([x, y]) => [x, x === 2222 ? 99 : y] as const);
  const thinned = thin(spiked, 100);
  t.true(thinned.length <= 200 && thinned.length > 100);
  t.deepEqual(
    thinned.find(([, y]) => y === 99),
    [2222, 99],
  );
  t.true(thinned.every(([x], index) => index === 0 || x > (thinned[index - 1]?.[0] ?? 0)));
  t.deepEqual(thin([[1, Number.NaN] as const, [2, 3] as const], 10), [[2, 3]]);
});

test('sampling keeps both ends', (t) => {
  const few = sampled(wave, 7);
  t.is(few.length, 7);
  t.deepEqual([few[0], few.at(-1)], [wave[0], wave.at(-1)]);
});

test('a moving average leaves a constant alone and starts at the first value', (t) => {
  const constant = smoothed(
    [1, 2, 3, 4].map((x) => [x, 5] as const),
    3,
  );
  t.true(constant.every(([, y]) => Math.abs(y - 5) < 1e-12));
  // Weights of span 2: 1/2, so the second average is (10 / 2 + 4) / (1 / 2 + 1) = 6.
  t.deepEqual(
    smoothed(
      [
        [1, 10],
        [2, 4],
      ] as const,
      2,
    ),
    [
      [1, 10],
      [2, 6],
    ],
  );
});

test('ticks are round and lie within the axis', (t) => {
  t.deepEqual(linearScale(0, 0.00021, 4).ticks, [0, 0.00005, 0.0001, 0.00015, 0.0002]);
  t.deepEqual(linearScale(2.17, 5.2, 6).ticks, [2.5, 3, 3.5, 4, 4.5, 5]);
  t.deepEqual(
    linearScale(0, 180 * 2 ** 20, 4, 2 ** 20).ticks,
    [0, 50, 100, 150].map((mebibytes) => mebibytes * 2 ** 20),
  );
  const single = linearScale(3, 3, 4);
  t.is(single.place(3), 0.5);
  t.deepEqual(logScale(0.5, 800).ticks, [0.1, 1, 10, 100, 1000]);
  t.is(logScale(0.5, 800).place(10), 0.5);
});

test('numbers are short', (t) => {
  t.deepEqual(
    [0, 0.0002, 0.005, 1.23456, 12345.6, 123456789].map((value) => formatNumber(value)),
    ['0', '2e-4', '0.005', '1.235', '12,346', '123,456,789'],
  );
});

const chart: Chart = {
  title: 'Loss <b>',
  unit: 'nats',
  series: [
    { label: 'training', points: wave, color: 0 },
    { label: '</script><i>', points: [[10, 1] as const], color: 1, look: 'marked' },
    { label: 'nothing', points: [], color: 2 },
  ],
};

test('a chart says in words what it draws, has a table of its values, and escapes labels', (t) => {
  const html = renderChart(chart, 'one');
  t.regex(
    html,
    /role="img" aria-label="Line chart: Loss &lt;b&gt; \(nats\) over steps\. training: from 0 at step 1 to .* lowest -1, highest 1\./,
  );
  t.regex(html, /<details><summary>Values as a table/);
  t.false(html.includes('nothing'));
  t.false(html.includes('<i>') || html.includes('Loss <b>'));
  const data = /<script type="application\/json">(.*)<\/script>/.exec(html)?.[1] ?? '';
  t.deepEqual(
    (JSON.parse(data) as { label: string }[]).map(({ label }) => label),
    ['training', '</script><i>'],
  );
  t.false(/NaN|undefined|Infinity/.test(html));
});

test('a chart without values is left out; one value is a point', (t) => {
  t.is(renderChart({ ...chart, series: [] }, 'none'), '');
  const single = renderChart({ ...chart, series: [{ label: 'a', points: [[1, 2]], color: 0 }] }, 'single');
  t.regex(single, /class="marks c0" d="M500 200h\.01"/);
  t.false(/NaN|Infinity/.test(single));
});
