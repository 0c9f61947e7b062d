"""The command line under test: run in this process or as the program it is, its tree walked, its examples taken apart."""

import os
import pty
import re
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.main import run, tree

AITBC = str(Path(sys.executable).with_name("aitbc"))
SECONDS = 60


@dataclass(frozen=True)
class Ended:
    """How one command line ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Leaf:
    """One command that does something, with the words that lead to it."""

    words: tuple[str, ...]
    command: Any

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def names(self) -> set[str]:
        """The names of its parameters."""
        return {parameter.name for parameter in self.command.params}

    @property
    def examples(self) -> list[str]:
        """The lines of its help under Examples."""
        return [line.strip() for line in self.command.epilog.partition("\n\n")[0].splitlines()[1:]]

    @property
    def exit_codes(self) -> dict[int, str]:
        """What its help says about how it can end."""
        lines = self.command.epilog.partition("Exit codes:\n")[2].splitlines()
        return {int(code): meaning for code, _, meaning in (line.strip().partition("  ") for line in lines)}

    @property
    def call(self) -> list[str]:
        """Its first example as words, confirmed beforehand where it asks."""
        found = (words for line in self.examples for words in commands_in(line))
        words = [
            word for word in next(each for each in found if tuple(each[: self.depth]) == self.words) if word != "-q"
        ]
        if "yes" not in self.names or "--yes" in words:
            return words
        return [*words[: self.depth], "--yes", *words[self.depth :]]

    @property
    def depth(self) -> int:
        """How many words name it."""
        return len(self.words)

    def with_options(self, *options: str) -> list[str]:
        """Its first example with options more, before any `--`."""
        words = self.call
        return [*words[: self.depth], *options, *words[self.depth :]]


def in_process(capsys: pytest.CaptureFixture[str], *words: str) -> Ended:
    """Run a command line in this process."""
    capsys.readouterr()
    code = run(words)
    told = capsys.readouterr()
    return Ended(code, told.out, told.err)


def as_program(*words: str, environment: Mapping[str, str], **more: Any) -> Ended:
    """Run the program as a shell does."""
    done = subprocess.run(
        [AITBC, *words], env=dict(environment), capture_output=True, text=True, timeout=SECONDS, **more
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def surroundings(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user with a home of their own and none of this machine's settings."""
    kept = {name: value for name, value in os.environ.items() if not is_setting(name)}
    return {**kept, "HOME": str(home), "AITBC_STATE_DIR": str(home / "state"), **more}


def is_setting(name: str) -> bool:
    """Whether a variable changes what the command line does."""
    return name.startswith(("AITBC_", "XDG_")) or name.lower().endswith("_proxy") or name in ("NO_COLOR", "COLUMNS")


def nouns_and_leaves() -> tuple[list[Leaf], list[Leaf]]:
    """Every noun that has verbs, and every command at the ends of the tree."""
    inner: list[Leaf] = []
    leaves: list[Leaf] = []
    for leaf in _below(tree(), ()):
        (inner if hasattr(leaf.command, "list_commands") else leaves).append(leaf)
    return inner, leaves


def _below(command: Any, words: tuple[str, ...]) -> Iterator[Leaf]:
    for name in command.list_commands(None):
        found = command.get_command(None, name)
        yield Leaf((*words, name), found)
        if hasattr(found, "list_commands"):
            yield from _below(found, (*words, name))


def commands_in(line: str) -> list[list[str]]:
    """The `aitbc …` of one line of shell, those in `$(…)` and `<(…)` included, each as words without its first."""
    inner = re.compile(r"[$<]\((aitbc [^()]*)\)")
    found = [words for each in inner.findall(line) for words in commands_in(each)]
    outer = re.split(r"\s+[|>]\s", inner.sub("job_01…", line))[0]
    words = shlex.split(outer)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return [*([words[1:]] if words and words[0] == "aitbc" else []), *found]


def parsed(words: list[str]) -> Any:
    """The context of a command line, parsed by the command that it names and not run."""
    command, rest = tree(), list(words)
    while hasattr(command, "list_commands"):
        command = command.get_command(None, rest.pop(0))
        assert command is not None, words
    return command.make_context("aitbc", rest)


def until_connected(program: "subprocess.Popen[Any]") -> None:
    """Wait until a program that was started has a connection, and has asked."""
    end = time.monotonic() + SECONDS
    while not any(_is_socket(file) for file in Path(f"/proc/{program.pid}/fd").iterdir()):
        assert program.poll() is None and time.monotonic() < end, "it asked nobody"
        time.sleep(0.02)
    time.sleep(0.2)


def _is_socket(file: Path) -> bool:
    try:
        return str(file.readlink()).startswith("socket:")
    except OSError:
        return False


def on_terminal(*words: str, environment: Mapping[str, str], **more: Any) -> Ended:
    """Run the program with its standard output on a terminal; its standard error is a pipe."""
    ours, terminal = pty.openpty()
    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.ONLCR
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    program = subprocess.Popen([AITBC, *words], env=dict(environment), stdout=terminal, stderr=subprocess.PIPE, **more)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # the end of a terminal is an error
        while piece := os.read(ours, 65_536):
            shown += piece
    os.close(ours)
    _, said = program.communicate(timeout=SECONDS)
    return Ended(program.returncode, shown.decode(), said.decode())
