import { readFileSync } from 'node:fs';
import test from 'ava';
import { patternKey, unusedPatternKeys } from '#dist/adapters/patterns.js';
import { pythonRegex } from '#dist/adapters/python-regex.js';
import {
  type Candidate,
  checkTargetOptions,
  decide,
  portableTargets,
  selectModulesToSave,
  selectTargets,
  type TargetOptions,
} from '#dist/adapters/targets.js';

interface Golden {
  readonly modules: Record<string, string[]>;
  readonly targets: { options: Record<string, unknown>; modules: string; matched: string[]; excluded: string[] }[];
  readonly patterns: { keys: string[]; key: Record<string, string | null> }[];
}

const golden = JSON.parse(readFileSync('test/golden/matching.json', 'utf8')) as Golden;

/** PEFT's option names as ours. */
function fromPeft(options: Record<string, unknown>): TargetOptions {
  return {
    targets: options.target_modules as string | string[],
    exclude: (options.exclude_modules as string | string[] | undefined) ?? null,
    modulesToSave: (options.modules_to_save as string[] | undefined) ?? null,
    layersToTransform: (options.layers_to_transform as number | number[] | undefined) ?? null,
    layersPattern: (options.layers_pattern as string | string[] | undefined) ?? null,
  };
}

const linear = (path: string, role?: string): Candidate => ({ path, kind: 'linear', role, shape: [8, 4] });

for (const { options, modules, matched, excluded } of golden.targets) {
  test(`PEFT decides the same for ${modules}: ${JSON.stringify(options)}`, (t) => {
    const decisions = (golden.modules[modules] ?? []).map((path) => [path, decide(fromPeft(options), linear(path))] as const);
    t.deepEqual(
      decisions.filter(([, decision]) => decision === 'matched').map(([path]) => path),
      matched,
    );
    t.deepEqual(
      decisions.filter(([, decision]) => decision === 'excluded').map(([path]) => path),
      excluded,
    );
  });
}

for (const { keys, key } of golden.patterns) {
  test(`PEFT picks the same pattern key of ${JSON.stringify(keys)}`, (t) => {
    for (const [path, expected] of Object.entries(key)) t.is(patternKey(keys, path) ?? null, expected, path);
  });
}

test('pattern keys that decide nothing are found', (t) => {
  t.deepEqual(unusedPatternKeys({ q_proj: 2, o_prj: 4 }, ['a.q_proj', 'a.o_proj']), ['o_prj']);
});

const model: Candidate[] = [0, 1].flatMap((layer) => [
  linear(`model.layers.${layer}.self_attn.q_proj`, 'attention.query'),
  linear(`model.layers.${layer}.self_attn.v_proj`, 'attention.value'),
  linear(`model.layers.${layer}.mlp.up_proj`, 'mlp.up'),
  { path: `model.layers.${layer}.input_layernorm`, kind: 'other', role: 'norm' } as const,
]);
model.push({ path: 'model.embed_tokens', kind: 'embedding', role: 'embedding', shape: [97, 32] }, linear('lm_head', 'head'));

const pathsOf = (options: TargetOptions): string[] => selectTargets('lora', model, options).map(({ path }) => path);

test('roles choose layers by what they do, families by their first word', (t) => {
  t.deepEqual(pathsOf({ targets: { roles: ['attention.query'] } }), ['model.layers.0.self_attn.q_proj', 'model.layers.1.self_attn.q_proj']);
  t.is(pathsOf({ targets: { roles: ['attention'] } }).length, 4);
  t.deepEqual(pathsOf({ targets: { roles: ['mlp'] }, layersToTransform: [1] }), ['model.layers.1.mlp.up_proj']);
});

test('all-linear means every linear layer but the head, in any case', (t) => {
  t.is(pathsOf({ targets: 'all-linear' }).length, 6);
  t.is(pathsOf({ targets: 'All-Linear' }).length, 6);
  t.false(pathsOf({ targets: 'all-linear' }).includes('lm_head'));
});

test('a RegExp must match the whole path', (t) => {
  t.deepEqual(pathsOf({ targets: /.*1\..*q_proj/ }), ['model.layers.1.self_attn.q_proj']);
  t.throws(() => pathsOf({ targets: /q_proj/ }), { code: 'config', message: /match no module/ });
});

test('one bad name of several is an error that names the nearest', (t) => {
  const error = t.throws(() => pathsOf({ targets: ['q_proj', 'v_porj', 'up_proj'] }), { code: 'config' });
  t.regex(error?.message ?? '', /no module matches "v_porj"; did you mean "v_proj"\?/);
  t.regex(error?.message ?? '', /q_proj \[8, 4\] x 2/);
  t.is(pathsOf({ targets: ['q_proj', 'v_porj'], allowUnmatched: true }).length, 2);
  t.throws(() => pathsOf({ targets: { roles: ['attention.qery'] } }), { message: /did you mean "attention.query"/ });
});

test('nothing left after exclusion, and nothing in the chosen layers, are told apart', (t) => {
  t.throws(() => pathsOf({ targets: ['q_proj'], exclude: ['q_proj'] }), {
    code: 'config',
    message: /is excluded; got exclude \["q_proj"\]/,
  });
  t.throws(() => pathsOf({ targets: ['q_proj'], layersToTransform: [7] }), { message: /got layersToTransform \[7\]/ });
  t.throws(() => pathsOf({ targets: 'nothing.*' }), { message: /targets "nothing\.\*" match no module/ });
  t.throws(() => pathsOf({ targets: 'q_porj' }), { message: /did you mean "q_proj"/ });
});

test('contradictions are errors whatever the model', (t) => {
  t.throws(() => checkTargetOptions('lora', { targets: '.*q_proj', layersToTransform: [0] }), {
    message: /layersToTransform needs a list/,
  });
  t.throws(() => checkTargetOptions('lora', { targets: '.*q_proj', layersPattern: 'layers' }), { message: /layersPattern needs a list/ });
  t.throws(() => checkTargetOptions('lora', { targets: ['q_proj'], layersPattern: 'layers' }), {
    message: /does nothing without layersToTransform/,
  });
  t.throws(() => checkTargetOptions('lora', { targets: [] }), { message: /targets is empty/ });
});

test('modulesToSave goes by the end of the path, and every entry must hit', (t) => {
  t.deepEqual(
    selectModulesToSave('lora', model, ['layernorm']).map(({ path }) => path),
    ['model.layers.0.input_layernorm', 'model.layers.1.input_layernorm'],
  );
  t.throws(() => selectModulesToSave('lora', model, ['lm_haed']), {
    code: 'config',
    message: /"lm_haed" matches no module; did you mean "lm_head"/,
  });
  t.deepEqual(
    selectModulesToSave('lora', model, ['lm_head', 'score'], true).map(({ path }) => path),
    ['lm_head'],
  );
  t.throws(() => selectModulesToSave('lora', model, ['classifier', 'score'], true), { message: /"classifier" matches no module/ });
});

test('roles and all-linear become names that mean the same modules', (t) => {
  t.deepEqual(portableTargets({ targets: { roles: ['attention'] } }, model), ['q_proj', 'v_proj']);
  t.deepEqual(portableTargets({ targets: 'all-linear' }, model), ['q_proj', 'up_proj', 'v_proj']);
  t.deepEqual(portableTargets({ targets: { roles: ['mlp'] }, layersToTransform: [1] }, model), ['model.layers.1.mlp.up_proj']);
  t.deepEqual(portableTargets({ targets: ['q_proj', 'v_proj'] }, model), ['q_proj', 'v_proj']);
  t.is(portableTargets({ targets: /.*q_proj/ }, model), '.*q_proj');
});

test('Python expressions are read as JavaScript ones', (t) => {
  t.true(pythonRegex('targets', '(?P<part>q|v)_proj(?P=part)').test('q_projq'));
  t.true(pythonRegex('targets', '(?i)Q_PROJ').test('q_proj'));
  t.true(pythonRegex('targets', '\\Aq_proj\\Z').test('q_proj'));
  t.false(pythonRegex('targets', '\\\\A').test('A'));
  t.throws(() => pythonRegex('targets', 'q_proj('), { code: 'config', message: /targets: not a valid regular expression; got "q_proj\("/ });
});
