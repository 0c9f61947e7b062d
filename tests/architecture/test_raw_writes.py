"""A block on a raw connection that writes says so: only `raw(writes=True)` reports that an outcome is unknown."""

import ast
import re
from pathlib import Path

from tests.architecture.source import ROOT, python_files, tree

CHANGES = re.compile(r"\b(INSERT INTO|UPDATE \S+( \w+)? SET|DELETE FROM)\b")


def statements_in(file: ast.Module) -> dict[str, bool]:
    """The constants of a file, and whether each holds a statement that changes rows."""
    return {
        target.id: CHANGES.search(ast.unparse(node.value)) is not None
        for node in file.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def reading_blocks(file: ast.Module) -> list[ast.AsyncWith]:
    return [
        node
        for node in ast.walk(file)
        if isinstance(node, ast.AsyncWith)
        and any(ast.unparse(item.context_expr).endswith(".raw()") for item in node.items)
    ]


def changing(path: Path) -> list[str]:
    if ".raw()" not in path.read_text(encoding="utf-8"):
        return []
    file = tree(path)
    constants = statements_in(file)
    found = []
    for block in reading_blocks(file):
        names = {node.id for node in ast.walk(block) if isinstance(node, ast.Name)}
        if CHANGES.search(ast.unparse(block)) or any(constants.get(name) for name in names):
            found.append(f"{path.relative_to(ROOT)}:{block.lineno}")
    return found


def test_a_raw_block_that_changes_rows_says_so() -> None:
    assert [place for path in python_files("src") for place in changing(path)] == []


def test_a_block_that_does_not_say_so_is_found() -> None:
    block = 'SAVE = "UPDATE ai.jobs SET x = 1"\nasync def f(db):\n    async with db.raw() as c:\n        await c.execute(SAVE)'
    file = ast.parse(block)
    assert statements_in(file) == {"SAVE": True}
    assert len(reading_blocks(file)) == 1
