import type { CommandDescription } from './description.js';

/** A completion function for bash; where it has no words to offer, bash offers files. */
export function bashCompletion(program: string, commands: readonly CommandDescription[]): string {
  const names = commands.map(({ name }) => name);
  const choices = commands.flatMap(({ name, options }) =>
    options
      .filter((option) => option.choices.length > 0)
      .flatMap(({ flags, choices: words }) => flags.map((flag) => `    '${name} ${flag}') words='${words.join(' ')}' ;;`)),
  );
  const free = commands.flatMap(({ name, options }) =>
    options
      .filter((option) => option.takesValue && option.choices.length === 0)
      .flatMap(({ flags }) => flags.map((flag) => `'${name} ${flag}'`)),
  );
  const options = commands.map(({ name, options: list }) => `      ${name}) words='${list.flatMap(({ flags }) => flags).join(' ')}' ;;`);
  const first = commands.filter(({ words }) => words.length > 0).map(({ name, words }) => `      ${name}) words='${words.join(' ')}' ;;`);
  return `# bash completion for ${program}: source <(${program} completion bash)
_${program}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}" command='' words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${COMP_WORDS[i]}" in
      ${names.join('|')}) command="\${COMP_WORDS[i]}"; break ;;
    esac
  done
  COMPREPLY=()
  case "$command $previous" in
${choices.join('\n')}
    ${free.join('|')}) return ;;
  esac
  if [[ -z $words && -z $command ]]; then
    if [[ $current == -* ]]; then words='--help --version'; else words='${names.join(' ')}'; fi
  elif [[ -z $words && $current == -* ]]; then
    case "$command" in
${options.join('\n')}
    esac
  elif [[ -z $words ]]; then
    case "$command" in
${first.join('\n')}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F _${program} ${program}
`;
}
