"""The documents that are written from the code say what the code says."""

import subprocess
import sys

from tests.architecture.source import ROOT
from tests.scale import only_in_full


@only_in_full  # `make check` looks at them each time
def test_the_map_and_the_catalogue_of_errors_are_up_to_date() -> None:
    # In a process of its own: this one knows the events and errors of the tests too.
    done = subprocess.run([sys.executable, "-m", "tools.documents", "check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
