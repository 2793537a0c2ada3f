/**
 * Completion in shells: a script for each, which asks the command itself what may follow.
 *
 * The scripts hold nothing that could grow old: words come from `sluice --get-yargs-completions WORD...`.
 */
import { configuredVolumes } from "../control/config-name.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];
export const DEFAULT_SHELL: Shell = "bash";

const BASH = `# bash completion for sluice: eval "$(sluice completion bash)"
_sluice() {
  local word
  COMPREPLY=()
  while IFS= read -r word; do
    [[ -z $word || $word != "\${COMP_WORDS[COMP_CWORD]}"* ]] || COMPREPLY+=("$word")
  done < <(SHELL=/bin/bash ZSH_NAME='' sluice --get-yargs-completions "\${COMP_WORDS[@]:0:COMP_CWORD+1}" 2>/dev/null)
}
complete -o bashdefault -o default -F _sluice sluice
`;

const ZSH = `#compdef sluice
# zsh completion for sluice: eval "$(sluice completion zsh)"
_sluice() {
  local -a found
  found=("\${(@f)$(SHELL=/bin/zsh sluice --get-yargs-completions "\${(@)words[1,CURRENT]}" 2>/dev/null)}")
  _describe 'sluice' found || _default
}
if [[ $funcstack[1] == _sluice ]]; then _sluice "$@"; else compdef _sluice sluice; fi
`;

const FISH = `# fish completion for sluice: sluice completion fish | source
complete --command sluice --arguments '(env SHELL=/bin/bash sluice --get-yargs-completions (commandline --tokenize --current-process --cut-at-cursor) (commandline --current-token) 2>/dev/null)'
`;

const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };

export function completionScript(shell: Shell): string {
  return SCRIPTS[shell];
}

/** Commands whose word after them is a volume. */
const TAKES_VOLUME: ReadonlySet<string> = new Set(["up", "down", "status", "resize", "check", "record", "daemon"]);

/** What yargs hands to the completion of a command line. */
interface Words {
  readonly _: readonly unknown[];
}
type Defaults = (answer: (error: Error | null, words: string[] | undefined) => void) => void;

/**
 * Commands and options as yargs knows them, and names of volumes where one may stand. Answers at once: yargs goes on to run
 * the command that is being completed as soon as it is not kept from it.
 */
export function complete(current: string, argv: Words, defaults: Defaults, done: (words: string[]) => void): void {
  const [, command, ...rest] = argv._.map(String);
  const before = rest.at(-1) === current ? rest.slice(0, -1) : rest;
  defaults((_error, words = []) => {
    if (command === "completion") done([...SHELLS]);
    else if (command === undefined || !TAKES_VOLUME.has(command) || before.length > 0 || current.startsWith("-")) {
      done(words);
    } else done(configuredVolumes().filter((name) => name.startsWith(current)));
  });
}
