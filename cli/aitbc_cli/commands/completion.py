"""Completion of nouns, verbs, options, ids and files in the shell."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import usage

SHELLS = ("bash", "zsh", "fish")
SIGNATURE = "# completion of aitbc"
Shell = Annotated[str | None, typer.Argument(metavar="[SHELL]", help="bash, zsh or fish; $SHELL unless given.")]
app = noun("completion", "Completion for bash, zsh and fish.")


@command(app, "show", examples=["source <(aitbc completion show bash)"], server=False, output=False)
def show(call: Call, shell: Shell = None) -> None:
    """Print the completion script of a shell."""
    call.out.text(script(_shell(shell)))


@command(app, "install", examples=["aitbc completion install", "aitbc completion install zsh"], server=False)
def install(call: Call, shell: Shell = None) -> None:
    """Write the completion script to where the shell looks for it; doing it again changes nothing."""
    chosen = _shell(shell)
    file = place(chosen, os.environ)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script(chosen) + "\n", encoding="utf-8")
    changed = [str(file)]
    if chosen == "zsh":
        changed += _add_line(
            _home() / ".zshrc", f"fpath+=({file.parent}); autoload -Uz compinit; compinit  {SIGNATURE}"
        )
    call.out.value(
        {"shell": chosen, "files": changed}, f"wrote {', '.join(changed)}; open a new {chosen}", name=str(file)
    )


def script(shell: str) -> str:
    """The completion script: it asks the program itself what could come next."""
    from typer._completion_shared import get_completion_script

    return get_completion_script(prog_name="aitbc", complete_var="_AITBC_COMPLETE", shell=shell)


def _shell(named: str | None) -> str:
    shell = named or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise usage(f"no completion for {shell or 'an unknown shell'}", hint=f"name one of {', '.join(SHELLS)}")
    return shell


def place(shell: str, environ: Mapping[str, str]) -> Path:
    """Where a shell looks for the completion of this program."""
    from aitbc.kernel.primitives.settings_files import config_home

    data = environ.get("XDG_DATA_HOME", "")
    share = Path(data) if data.startswith("/") else Path(environ.get("HOME") or "/") / ".local/share"
    return {
        "bash": share / "bash-completion/completions/aitbc",
        "zsh": share / "zsh/site-functions/_aitbc",
        "fish": config_home(environ) / "fish/completions/aitbc.fish",
    }[shell]


def _add_line(file: Path, line: str) -> list[str]:
    """One marked line at the end of a file that belongs to somebody else, once."""
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    if SIGNATURE in before:
        return []
    file.write_text(before + ("" if before.endswith("\n") or not before else "\n") + line + "\n", encoding="utf-8")
    return [str(file)]


def _home() -> Path:
    return Path(os.environ.get("HOME") or "/")
