"""What the same work costs when something else, or nothing, came before it: the machine's part in files that come one by one.

    python tests/bench/pauses.py [--files N] [--folder DIR]

The work is the careful loop's for one file: two renames, five rows, four commits, a hash. Before each file the process
sleeps, or stays awake and counts the time. What a file takes more than without a pause is caches, predictors and page
tables gone cold, and cores that were halted. It is no line of anybody's code.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent / "peers")]

from careful import Careful

_PAUSES = (0.0, 0.0005, 0.002, 0.005, 0.02)  # seconds


def _spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def measure(folder: Path, files: int, wait: Callable[[float], None], pause: float) -> float:
    """Seconds for one file, the median."""
    loop = Careful(str(folder))
    for number in range(files):
        (folder / "inbound" / f"{number}").write_bytes(b"x" * 1024)
    took = []
    for row in list(loop.found()):
        if pause:
            wait(pause)
        began = time.perf_counter()
        loop.take_all(iter([row]))
        took.append(time.perf_counter() - began)
    return median(took)


def main() -> int:
    parser = argparse.ArgumentParser(description="What a pause costs whoever works after it.")
    parser.add_argument("--files", type=int, default=500, help="for each line (default: 500)")
    parser.add_argument("--folder", type=Path, help="where to work (default: the temporary folder)")
    arguments = parser.parse_args()
    print(f"{'pause ms':>10}{'asleep us':>12}{'x none':>8}{'awake us':>12}{'x none':>8}")
    with tempfile.TemporaryDirectory(prefix="inboxd-bench-", dir=arguments.folder) as folder:
        none = 0.0
        for number, pause in enumerate(_PAUSES):
            line = f"{pause * 1000:>10g}"
            for name, wait in (("asleep", time.sleep), ("awake", _spin)):
                place = Path(folder, f"{name}-{number}")
                place.mkdir()
                took = measure(place, arguments.files, wait, pause)
                none = none or took
                line += f"{took * 1e6:>12.0f}{took / none:>8.1f}"
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
