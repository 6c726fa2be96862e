"""The command line: arguments, output, exit codes; nothing else."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb. Returns its exit code (sysexits.h): 0, 64 usage, 69 not running, 75 already running, 78 config."""
    from inboxd.cli.arguments import parse

    options = parse(sys.argv[1:] if argv is None else argv)
    from inboxd.errors import InboxdError

    try:
        return int(options.act(options) or 0)
    except InboxdError as error:
        for line in getattr(error, "problems", [str(error)]):
            print(f"inboxd: {line}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
