"""Giving an answer: JSON when asked for, drawn on a terminal, plain text in a pipe."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from inboxd.cli.page import Page, plain


def give(options: Namespace, answer: Any, page: Page) -> None:
    """Print an answer, or the page that shows it."""
    if options.json:
        print(json.dumps(answer), flush=True)
    else:
        show(page)


def show(page: Page) -> None:
    """Print a page."""
    if not sys.stdout.isatty():
        print(plain(page), flush=True)
        return
    from inboxd.cli.screen import draw

    draw(page)
