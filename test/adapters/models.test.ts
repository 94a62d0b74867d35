import { readFileSync } from 'node:fs';
import test from 'ava';
import { type AdapterConfig, attach, type TunedModel } from '#dist/adapters/index.js';
import { readPeftConfig } from '#dist/io/peft-config.js';
import { loadTiny } from '../helpers/adapters.js';

interface Golden {
  readonly allLinear: { base: string; options: Record<string, unknown>; matched: string[] }[];
  readonly defaultTargets: { base: string; matched: string[] }[];
  readonly modulesToSave: { entries: string[]; base: string; copied: string[] }[];
  readonly refused: { options: Record<string, unknown>; refused: boolean }[];
  readonly minimalTargets: { targets: string[]; others: string[]; minimal: string[] };
}

const golden = JSON.parse(readFileSync('test/golden/matching.json', 'utf8')) as Golden;

/** PEFT's options as ours, by way of a file. */
function configOf(options: Record<string, unknown>): AdapterConfig {
  const { config } = readPeftConfig({ peft_type: 'LORA', ...options });
  return { type: 'lora', ...config } as AdapterConfig;
}

const pathsOf = (tuned: TunedModel): string[] => [...new Set(tuned.table().map(({ path }) => path))];

for (const { base, options, matched } of golden.allLinear) {
  test.serial(`all-linear is the same set as in PEFT: ${base} ${JSON.stringify(options)}`, async (t) => {
    const model = await loadTiny(base);
    const tuned = await attach(model, configOf({ target_modules: 'all-linear', ...options }));
    t.deepEqual(pathsOf(tuned), matched);
    model.dispose();
    tuned.dispose();
  });
}

for (const { base, matched } of golden.defaultTargets) {
  test.serial(`without targets the same layers as in PEFT are adapted: ${base}`, async (t) => {
    const model = await loadTiny(base);
    const tuned = await attach(model, { type: 'lora' });
    t.deepEqual(pathsOf(tuned), matched);
    model.dispose();
    tuned.dispose();
  });
}

for (const { entries, base, copied } of golden.modulesToSave) {
  test.serial(`modulesToSave copies what PEFT copies: ${entries.join()}`, async (t) => {
    const model = await loadTiny(base);
    const tuned = await attach(model, { type: 'lora', targets: ['q_proj'], modulesToSave: entries });
    const whole = tuned.table().filter(({ shapes }) => !Object.keys(shapes).some((end) => end.startsWith('lora_')));
    t.deepEqual(whole.map(({ path }) => path).sort(), [...copied].sort());
    model.dispose();
    tuned.dispose();
  });
}

for (const { options } of golden.refused) {
  test.serial(`what cannot work is refused: ${JSON.stringify(options)}`, async (t) => {
    const model = await loadTiny();
    const error = await t.throwsAsync(async () => attach(model, configOf(options)));
    t.true(['config', 'adapter'].includes((error as { code?: string }).code ?? ''), error?.message);
    model.dispose();
  });
}
