"""``python -m onnx_numba``: the command line."""

import sys

from onnx_numba.cli import main

if __name__ == "__main__":
    sys.exit(main())
