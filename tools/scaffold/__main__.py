"""`python -m tools.scaffold NAME`."""

import sys

from tools.scaffold import main

sys.exit(main(sys.argv[1:]))
