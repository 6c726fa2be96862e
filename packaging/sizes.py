"""No module of the daemon above 400 lines: a god module is prevented, not repaired. A list of events is none."""

import sys
from pathlib import Path

MOST = 400
LISTS = ("events.py",)

large = [
    f"{path}: {count} lines, {MOST} at most"
    for path in sorted(Path("daemon").rglob("*.py"))
    if path.name not in LISTS and (count := len(path.read_text().splitlines())) > MOST
]
sys.exit("\n".join(large) or None)
