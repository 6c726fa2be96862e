"""The command line: arguments, output, exit codes; nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from inboxd.cli.output import remark, written
from inboxd.errors import EXIT_OK, EXIT_SOFTWARE, InboxdError

_INTERRUPTED = 128 + 2  # as shells tell SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb. Returns its exit code: those of sysexits.h, 1 for "done, and not all is well", 130 after Ctrl-C."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # not a stream of text on a descriptor
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except BrokenPipeError:
        return EXIT_OK
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        _let_go()


def _open_streams() -> None:
    """What was closed before us of 0, 1 and 2 is /dev/null: else a file that we open gets the number, and our log."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _run(argv: Sequence[str]) -> int:
    try:
        code = _act(argv)
        with written():
            return code
    except InboxdError as error:
        _tell(getattr(error, "problems", None) or str(error).splitlines())
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception:  # noqa: BLE001 - the last stop; whoever reported it needs the traceback
        _tell([*traceback.format_exc().splitlines(), "this is a fault of inboxd; please report it with these lines"])
        return EXIT_SOFTWARE


def _act(argv: Sequence[str]) -> int:
    try:
        from inboxd.cli.arguments import parse

        options = parse(argv)
        return int(options.act(options))
    except SystemExit as done:
        return int(done.code or 0)


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        remark(line)


def _let_go() -> None:
    """What can't be written now, the interpreter would try again at its end, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
