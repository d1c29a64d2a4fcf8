"""`python -m csoftmax` is the command line. Nothing stands on it. It stands on `cli`."""

import sys

from csoftmax.cli import main

if __name__ == "__main__":
    sys.exit(main())
