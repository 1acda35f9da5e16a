"""`testbed completion`: the script that makes a shell complete commands, labs, nodes and more."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from testbed.cli.app import MACHINE, command
from testbed.cli.options import argument_of
from testbed.cli.output import emit_text


class Shell(StrEnum):
    """Shells that a script can be had for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


# Each asks the command as it was typed, `./tb` too. Instead of typer's own scripts: those ask `tb` where
# `./tb` was typed, and their bash takes the two sides of an `=` for two words.
_SCRIPTS = {
    Shell.bash: r"""
_testbed_completion() {
    local IFS=$'\n' index word words=() last=-1 found
    for ((index = 0; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        # Bash ends a word at `=`; the command takes `--set PATH=VALUE` as one.
        if ((last > 0)) && [[ $word == = || ${words[last]} == *= ]]; then
            words[last]+=${word#=}
            [[ $word == = ]] && words[last]+==
        else
            words[++last]=$word
        fi
    done
    COMPREPLY=($(COMP_WORDS="${words[*]}" COMP_CWORD=$last _TESTBED_COMPLETE=complete_bash \
        "${1/#\~/$HOME}" 2>/dev/null))
    for found in "${COMPREPLY[@]}"; do
        [[ $found == *[./=,] ]] && compopt -o nospace
    done
    [[ ${words[last]} == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${words[last]%=*}="}")
}
complete -o default -F _testbed_completion testbed tb
""",
    Shell.zsh: r"""
_testbed_completion() {
    local line
    local -a whole part
    for line in "${(@f)$(_TESTBED_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
        _TYPER_COMPLETE_ARGS="${(j: :)words[1,CURRENT]}" ${~words[1]} 2>/dev/null)}"; do
        line=${line%%$'\t'*}
        case $line in
            '') ;;
            *[./=,]) part+=("$line") ;;
            *) whole+=("$line") ;;
        esac
    done
    (( $#part + $#whole )) || { _files; return }
    compadd -S '' -a part
    compadd -a whole
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _testbed_completion testbed tb
""",
    Shell.fish: r"""
function _testbed_completion --argument-names action
    set -lx _TESTBED_COMPLETE complete_fish
    set -lx _TYPER_COMPLETE_FISH_ACTION $action
    set -lx _TYPER_COMPLETE_ARGS (commandline -cp)
    set -l words (commandline -opc)
    eval $words[1] 2>/dev/null
end
for name in testbed tb # files where there is nothing to complete
    complete --command $name --no-files --condition '_testbed_completion is-args' \
        --arguments '(_testbed_completion get-args)'
end
""",
}


@command("completion", panel=MACHINE)
def completion(shell: Annotated[Shell, argument_of(Shell, "The shell to complete in.")]) -> None:
    """Print the script with which a shell completes `testbed`, `tb` and `./tb`.

    For this shell and for good, put into ~/.bashrc or ~/.zshrc: eval "$(testbed completion bash)" or zsh;
    into ~/.config/fish/config.fish: testbed completion fish | source.
    """
    emit_text(_SCRIPTS[shell].strip())
