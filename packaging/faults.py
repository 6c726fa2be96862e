"""Writes the table of docs/faults.md from what tests came to: faults.py [--whole] RESULTS PAGE.

Rows of tests that were not run stay as they are, unless the table is to be made as a `--whole`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.faults import SECTIONS

_BEGIN, _END = "<!-- the table: written by ./dev faults -->", "<!-- the table ends -->"
_HEAD = ["| fault | how it is produced | rounds | result | `./dev faults …` |", "|---|---|---:|---|---|"]


class Key(NamedTuple):
    """What makes a row one row."""

    section: str
    what: str
    how: str


def read(page: str) -> dict[Key, str]:
    """The rows that stand in a page."""
    rows, section = {}, ""
    for line in page.partition(_BEGIN)[2].partition(_END)[0].splitlines():
        if line.startswith("### "):
            section = line.removeprefix("### ")
        elif line.startswith("| ") and line not in _HEAD:
            what, how, *_rest = (cell.strip() for cell in line.strip("|").split("|"))
            rows[Key(section, what, how)] = line
    return rows


def made(results: list[dict[str, Any]]) -> dict[Key, str]:
    """A row for each fault and way to produce it."""
    found: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for one in results:
        found[Key(one["section"], one["what"], one["how"])].append(one)
    return {key: _row(key, some) for key, some in found.items()}


def _row(key: Key, some: list[dict[str, Any]]) -> str:
    failed = sum(one["result"] != "passed" for one in some)
    shows = "; ".join(dict.fromkeys(one["shows"] for one in some))
    result = f"**{failed} of {len(some)} tests failed**" if failed else shows
    tests = " ".join(f"`{place}`" for place in sorted({one["test"] for one in some}))
    return f"| {key.what} | {key.how} | {sum(one['rounds'] for one in some):,} | {result} | {tests} |"


def written(page: str, rows: dict[Key, str]) -> str:
    """The page with these rows."""
    lines = []
    for section in SECTIONS:
        found = sorted((key.what, key.how, row) for key, row in rows.items() if key.section == section)
        if found:
            lines += [f"### {section}", "", *_HEAD, *(row for _what, _how, row in found), ""]
    before, _, rest = page.partition(_BEGIN)
    return "\n".join([f"{before}{_BEGIN}", "", *lines, f"{_END}{rest.partition(_END)[2]}"])


def main() -> int:
    """1 when a test failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    results = [json.loads(line) for line in options.results.read_text(encoding="utf-8").splitlines()]
    page = options.page.read_text(encoding="utf-8")
    options.page.write_text(written(page, {**({} if options.whole else read(page)), **made(results)}), encoding="utf-8")
    return 1 if any(one["result"] != "passed" for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
