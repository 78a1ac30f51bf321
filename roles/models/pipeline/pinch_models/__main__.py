"""``python -m pinch_models``."""

import sys

from pinch_models.cli import main

sys.exit(main())
