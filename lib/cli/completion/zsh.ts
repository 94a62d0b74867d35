import type { CommandDescription, OptionDescription } from './description.js';

/** Text inside single quotes of a specification of \`_arguments\`. */
const escaped = (text: string): string => text.replace(/[\\[\]:]/g, '\\$&').replaceAll("'", "'\\''");

function specification({ flags, description, takesValue, choices }: OptionDescription): string {
  const value = !takesValue ? '' : choices.length > 0 ? `:value:(${choices.join(' ')})` : ':value:_files';
  const names = flags.length > 1 ? `'(${flags.join(' ')})'{${flags.join(',')}}` : `'*${flags[0]}'`;
  return `${names}'[${escaped(description)}]${value}'`;
}

/** A completion function for zsh. */
export function zshCompletion(program: string, commands: readonly CommandDescription[]): string {
  const listed = commands.map(({ name, description }) => `    '${name}:${escaped(description)}'`).join('\n');
  const cases = commands.map(({ name, options, words }) => {
    const rest = words.length > 0 ? `'1:word:(${words.join(' ')})'` : "'*:file:_files'";
    return `    ${name})\n      _arguments -s ${[...options.map(specification), rest].join(' \\\n        ')} ;;`;
  });
  return `#compdef ${program}
# zsh completion for ${program}: source <(${program} completion zsh), after compinit
_${program}() {
  local -a commands
  commands=(
${listed}
  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
${cases.join('\n')}
  esac
}
compdef _${program} ${program}
`;
}
