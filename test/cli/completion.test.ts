import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';

const folder = temporaryFolder();
const script = async (shell: string): Promise<string> => (await lorikeet(['completion', shell])).stdout;

/** What bash offers for the words of a line, the last one unfinished. */
function bash(path: string, ...words: string[]): string[] {
  const line = ['lorikeet', ...words];
  const program = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _lorikeet; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync('bash', ['-c', program, 'bash', path, ...line], { encoding: 'utf8' })
    .split('\n')
    .filter((word) => word !== '');
}

test('bash completes commands, options, values and shells; elsewhere it is left to files', async (t) => {
  const path = join(folder, 'completion.bash');
  writeFileSync(path, await script('bash'));
  t.deepEqual(bash(path, 'conv'), ['convert']);
  t.true(bash(path, '').includes('train') && bash(path, '').includes('estimate'));
  t.deepEqual(bash(path, '--v'), ['--version']);
  t.deepEqual(bash(path, 'convert', '--to', 'm'), ['mlx']);
  t.deepEqual(bash(path, 'convert', '--to', ''), ['peft', 'kohya', 'mlx', 'gguf', 'safetensors']);
  t.deepEqual(bash(path, 'evaluate', '--model', 'x', '--max-l'), ['--max-length']);
  t.deepEqual(bash(path, 'completion', ''), ['bash', 'zsh', 'fish']);
  t.deepEqual(bash(path, 'train', 'rec'), []);
  t.deepEqual(bash(path, 'train', '--out', 'ru'), []);
  t.true(bash(path, 'train', '-').includes('--resume'));
});

for (const shell of ['zsh', 'fish'] as const) {
  test(`the script for ${shell} names every command; ${shell} accepts it where it is installed`, async (t) => {
    const text = await script(shell);
    for (const command of ['train', 'evaluate', 'generate', 'merge', 'convert', 'inspect', 'compare', 'estimate', 'doctor', 'completion'])
      t.true(text.includes(command), command);
    t.regex(text, /peft kohya mlx gguf safetensors/);
    const path = join(folder, `completion.${shell}`);
    writeFileSync(path, text);
    const { error, status, stderr } = spawnSync(shell, ['-n', path], { encoding: 'utf8' });
    if (error === undefined) t.is(status, 0, stderr);
    else t.log(`skipped: no ${shell} here`);
  });
}

test('wrong use: an unknown shell; --json holds the script', async (t) => {
  const wrong = await lorikeet(['completion', 'tcsh']);
  t.is(wrong.code, 2);
  t.regex(wrong.stderr, /Allowed choices are bash, zsh, fish/);
  t.like(lastJson(await lorikeet(['completion', 'bash', '--json'])), { shell: 'bash', script: await script('bash') });
});
