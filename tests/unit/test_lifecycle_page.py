"""docs/lifecycle.md is drawn from the table, and is not older than it."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_the_tables() -> None:
    page = runpy.run_path(str(ROOT / "packaging" / "lifecycle.py"))["page"]()
    assert (ROOT / "docs" / "lifecycle.md").read_text(encoding="utf-8") == page, "run `./dev docs`"
