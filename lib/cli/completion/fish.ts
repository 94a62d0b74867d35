import type { CommandDescription, OptionDescription } from './description.js';

const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

function flagsOf({ flags }: OptionDescription): string {
  return flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`)).join(' ');
}

function argumentOf({ takesValue, choices }: OptionDescription): string {
  if (!takesValue) return '';
  return choices.length > 0 ? ` -x -a ${quoted(choices.join(' '))}` : ' -r -F';
}

/** Completions for fish. */
export function fishCompletion(program: string, commands: readonly CommandDescription[]): string {
  const lines = [`# fish completion for ${program}: ${program} completion fish | source`, `complete -c ${program} -e`];
  for (const { name, description } of commands)
    lines.push(`complete -c ${program} -n __fish_use_subcommand -f -a ${name} -d ${quoted(description)}`);
  for (const { name, options, words } of commands) {
    const within = `complete -c ${program} -n '__fish_seen_subcommand_from ${name}'`;
    if (words.length > 0) lines.push(`${within} -f -a ${quoted(words.join(' '))}`);
    for (const option of options) lines.push(`${within} ${flagsOf(option)}${argumentOf(option)} -d ${quoted(option.description)}`);
  }
  return `${lines.join('\n')}\n`;
}
