"""Says at the end in one line what was skipped for want of which package, if anything was."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter

from tests.scale import LEFT

PACKAGE = re.compile(r"apt-get install ([a-z0-9.+-]+)")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter) -> Iterator[None]:
    """The line, below all that pytest has to say but its own last line."""
    yield
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    if line := said(skipped):
        terminalreporter.write_line(line)


def said(reasons: list[str]) -> str:
    """The line for some reasons; nothing where there are none."""
    packages = Counter(found[1] for reason in reasons if (found := PACKAGE.search(reason)))
    left = sum(LEFT in reason for reason in reasons)
    others = len(reasons) - packages.total() - left
    parts = [f"for want of {package} {count}" for package, count in sorted(packages.items())]
    parts += [f"for other reasons {others}"] if others else []
    parts += [f"{LEFT} {left}"] if left else []
    return f"tests skipped: {', '.join(parts)}" if parts else ""
