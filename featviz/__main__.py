"""Run the command as `python -m featviz`."""

import sys

from featviz.cli import main

if __name__ == "__main__":
    sys.exit(main())
