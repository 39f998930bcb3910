"""Run random graphs by the hundred: ``python tests/random_graphs_many.py FIRST LAST [python]``."""

from __future__ import annotations

import sys

from test_random_graphs import check


def main(first: int, last: int, jit: bool) -> int:
    """Print every seed that fails and why; answer how many did."""
    failed = 0
    for seed in range(first, last):
        try:
            check(seed, jit=jit)
        except Exception as error:  # a run over many seeds reports them all
            failed += 1
            print(f"seed {seed}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
    print(f"{last - first - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]), "python" not in sys.argv[3:])))
