"""The default homes of a test session: a folder that must not come to be, since each test names its own."""

import os
import tempfile
from pathlib import Path

DEFAULT_HOMES = ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
_PREFIX = f"{tempfile.gettempdir()}/aitbc-of-no-test-"
_KNOWN = os.environ.get(DEFAULT_HOMES[0], "")
NOWHERE = Path(_KNOWN if _KNOWN.startswith(_PREFIX) else f"{_PREFIX}{os.getpid()}")
"""That of the session and its workers. A server of this user's, its settings and its data lie elsewhere."""
