"""Writes docs/lifecycle.md from the table in lifecycle.py. Run by `./dev docs`; a test holds the two together."""

import re
import sys
from pathlib import Path

from inboxd import lifecycle
from inboxd.model import State

_HEAD = """\
# The lifecycle of a file

Drawn from `TRANSITIONS` in [lifecycle.py](../daemon/inboxd/lifecycle.py) by `./dev docs`; a test keeps the two equal.

```mermaid
stateDiagram-v2
"""


def page() -> str:
    """The whole page."""
    arrows = [f"    {state} --> {target}: {event}\n" for (state, event), target in lifecycle.TRANSITIONS.items()]
    ends = [f"    {state} --> [*]\n" for state in State if state in lifecycle.FINAL]
    return _HEAD + "    [*] --> CLAIMING: announce\n" + "".join(arrows + ends) + "```\n\n" + _paragraphs()


def _paragraphs() -> str:
    """The comments above the table, a line of a Markdown table per state."""
    source = Path(lifecycle.__file__).read_text(encoding="utf-8")
    text = " ".join(re.findall(r"^#: ?(.*)$", source, re.MULTILINE))
    found = re.split(r"\b(" + "|".join(State) + r") {2,}", text)
    rows = [f"| {name} | {' '.join(words.split())} |\n" for name, words in zip(found[1::2], found[2::2], strict=True)]
    return "| state | who brings a file here, who takes it away |\n|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
