import test from 'ava';
import { ConfigError, memory, scope } from 'lorikeet';
import { RotaryEmbedding, rotaryFrequencies } from 'lorikeet/nn';
import { tensor } from 'lorikeet/ops';
import { near, numbers } from '../helpers/numbers.js';

const base = { theta: 100, headWidth: 8, maxPositions: 16 } as const;
// 100 ** (-i / 4)
const plain = [1, 0.31622776601683794, 0.1, 0.03162277660168379];

test('frequencies by type', (t) => {
  near(t, rotaryFrequencies({ ...base, type: 'default' }).frequencies, plain, 1e-15, 'default');
  near(
    t,
    rotaryFrequencies({ ...base, type: 'linear', factor: 4 }).frequencies,
    plain.map((f) => f / 4),
    1e-15,
    'linear',
  );
  near(t, rotaryFrequencies({ ...base, type: 'dynamic', factor: 2 }, 16).frequencies, plain, 1e-15, 'dynamic within the context');
  // theta * (2 * 32 / 16 - 1) ** (8 / 6)
  const longer = 100 * 3 ** (4 / 3);
  near(
    t,
    rotaryFrequencies({ ...base, type: 'dynamic', factor: 2 }, 32).frequencies,
    [0, 1, 2, 3].map((i) => longer ** (-i / 4)),
    1e-15,
    'dynamic beyond it',
  );
  // Rotations within 16 positions: 2.55, 0.81, 0.25, 0.08. Above 1 kept; below 0.2 divided by 8; between blended by (rotations - 0.2) / 0.8.
  const blend = (i: number): number => {
    const keep = ((16 * (plain[i] ?? 0)) / (2 * Math.PI) - 0.2) / 0.8;
    return ((1 - keep) * (plain[i] ?? 0)) / 8 + keep * (plain[i] ?? 0);
  };
  const llama3 = rotaryFrequencies({ ...base, type: 'llama3', factor: 8, lowFrequencyFactor: 0.2, highFrequencyFactor: 1 });
  near(t, llama3.frequencies, [1, blend(1), blend(2), (plain[3] ?? 0) / 8], 1e-15, 'llama3');
});

test('yarn scales cos and sin', (t) => {
  const yarn = { ...base, type: 'yarn', factor: 4 } as const;
  t.is(rotaryFrequencies(yarn).scale, 0.1 * Math.log(4) + 1);
  t.is(rotaryFrequencies({ ...yarn, attentionFactor: 0.7 }).scale, 0.7);
  t.is(rotaryFrequencies({ ...yarn, factor: 1 }).scale, 1);
});

test('tables grow with what is asked for, and go on being those of the same positions', async (t) => {
  const rotary = new RotaryEmbedding({ ...base, type: 'default' });
  for (const length of [3, 700]) {
    await scope(async () => {
      const positions = tensor(new BigInt64Array(length), { shape: [1, length] });
      const row = Array.from({ length }, (_, t) => t);
      const { cos, sin } = rotary.tables(positions, { positions: [row], spans: [row.map(() => length)] });
      const [c, s] = await Promise.all([numbers(cos), numbers(sin)]);
      near(
        t,
        c.slice(8, 12),
        plain.map((f) => Math.cos(2 * f)),
        1e-6,
        'cos',
      );
      near(
        t,
        s.slice(8, 12),
        plain.map((f) => Math.sin(2 * f)),
        1e-6,
        'sin',
      );
      t.true(c.length >= length * 4);
    });
  }
  rotary.dispose();
});

test('bad settings', (t) => {
  t.throws(() => new RotaryEmbedding({ ...base, type: 'default', headWidth: 5 }), {
    instanceOf: ConfigError,
    message: /even and positive; got 5/,
  });
  t.throws(() => new RotaryEmbedding({ ...base, type: 'spiral' as 'default' }), {
    instanceOf: ConfigError,
    message: /unknown type "spiral"/,
  });
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
