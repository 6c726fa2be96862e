"""Giving an answer: JSON when asked for, drawn on a terminal, plain text in a pipe."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from inboxd.cli.page import Page, plain
from inboxd.errors import OutputError
from inboxd.escape import escape


def give(options: Namespace, answer: Any, page: Page) -> None:
    """Print an answer, or the page that shows it."""
    if options.json:
        with written():
            print(json.dumps(answer))
    else:
        show(page)


def show(page: Page) -> None:
    """Print a page."""
    with written():
        if not sys.stdout.isatty():
            print(plain(page))
            return
        from inboxd.cli.screen import draw

        draw(page)


def remark(line: str) -> None:
    """Print a line beside the answer, on standard error. Where that takes none, nobody can be told."""
    with contextlib.suppress(OSError):
        print(f"inboxd: {escape(line)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def written() -> Iterator[None]:
    """What is printed in here has gone out at its end. Raises OutputError, and BrokenPipeError when nobody reads on."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"the answer can't be written to standard output: {error.strerror}",
            hint="what was to be changed is changed; make room there, or have it written elsewhere",
        ) from None
