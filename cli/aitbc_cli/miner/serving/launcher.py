"""What stands between the miner and an engine: `python -m … PARENT_PID COMMAND…`. It ends with the miner."""

import os
import subprocess
import sys

from aitbc_cli.miner.executors import process_tree

NOT_FOUND = 127
"""The exit code of a shell for a command that is not there."""


def main() -> None:
    """Run the command, and end as it ends."""
    parent, *command = sys.argv[1:]
    process_tree.end_with_parent(int(parent))
    try:
        engine = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_FOUND)
    code = engine.wait()
    process_tree.kill_descendants(os.getpid())
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
