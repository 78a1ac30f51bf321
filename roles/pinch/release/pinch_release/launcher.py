#!/usr/bin/python3 -PsS
"""Run the service's command line from the release that this file lies in."""
# -S: no site-packages of the system, so the release runs with exactly the wheels it was locked with. One without wheels
# names the distribution's folder instead, and still sees nothing that was put beside it with pip.
# The link `current` may move to another release while this one runs; resolving it once keeps later
# imports, and those of child processes, in the release that started.

import os
import sys

# Not pathlib: the service's start should not wait for a module that it may never need.
PROGRAM = os.path.realpath(__file__)
LIBRARY = PROGRAM.removesuffix("/bin/pinch") + "/lib"
SHARED = ""
sys.path.insert(0, LIBRARY)
if SHARED:
    sys.path.append(SHARED)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (LIBRARY, SHARED)))

# Open as long as this runs: it tells which release that is, where no wheel's library is mapped that would.
os.open(PROGRAM, os.O_PATH)

from pinch.cli import main  # noqa: E402 (the path above comes first)

sys.exit(main())
