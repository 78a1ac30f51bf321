"""`python -m pinch`."""

import sys

from pinch.cli import main

if __name__ == "__main__":
    sys.exit(main())
