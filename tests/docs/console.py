"""The examples of a document: commands of its `console` blocks, each with the lines that it should print."""

import re
from dataclasses import dataclass, field
from pathlib import Path

ANYTHING = "…"


@dataclass
class Example:
    """One command, and what the document says that it prints."""

    line: int
    """Where it stands in the document."""
    command: str
    printed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"line {self.line}: {self.command.splitlines()[0][:60]}"

    def agrees_with(self, output: str) -> bool:
        """Whether the output is what was promised; `…` stands for anything in a line, alone in a line for any lines."""
        wanted = "".join(
            r"(?:.*\n)*" if line == ANYTHING else re.escape(line).replace(ANYTHING, ".*") + r"\n"
            for line in self.printed
        )
        return re.fullmatch(wanted, output if not output or output.endswith("\n") else f"{output}\n") is not None


def examples(document: Path) -> list[Example]:
    """The commands of a document in its order: `$ ` begins one, `> ` goes on with it, everything else is printed."""
    found: list[Example] = []
    is_console = False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            is_console = line == "```console"
        elif not is_console:
            continue
        elif line.startswith("$ "):
            found.append(Example(number, line[2:]))
        elif line.startswith("> "):
            found[-1].command += f"\n{line[2:]}"
        else:
            found[-1].printed.append(line)
    return found


def fenced(document: Path, language: str) -> list[str]:
    """The blocks of one language, without their fences."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"))


def script(commands: list[Example], mark: str) -> str:
    """One program for a shell that runs them all; each is followed by a line with the mark and its number."""
    return "\n".join(f"{example.command}\nprintf '\\n%s %d\\n' {mark} {i}" for i, example in enumerate(commands)) + "\n"


def outputs(printed: str, mark: str) -> list[str]:
    """What each command printed."""
    return re.split(rf"\n{re.escape(mark)} \d+\n", printed)[:-1]
