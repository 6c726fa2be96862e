"""The checker as a command: python -m inboxd.checker CONFIG [--manifest FILE] [--witness FILE] [--calm] [--finished]

Reads the configuration, the ledger (read-only) and the folders. The daemon must be stopped, killed or idle meanwhile.
Prints each violation; exit 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from inboxd.checker.checks import CHECKS, violations
from inboxd.checker.evidence import Dropped, Evidence


def read_manifest(path: Path) -> list[Dropped]:
    """Files that were dropped, one JSON object a line."""
    return [Dropped(**json.loads(line)) for line in path.read_text(encoding="ascii").splitlines()]


def read_witness(path: Path) -> list[dict[str, Any]]:
    """The lines of a handler that notes its runs; none if it never ran.

    A writer that is killed in its write(2), where two pages meet, leaves the beginning of a line before the next one.
    """
    if not path.exists():
        return []
    return [json.loads(line[max(0, line.rfind(b'{"what"')) :]) for line in path.read_bytes().split(b"\n")[:-1]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check the fourteen invariants of an inboxd installation.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--manifest", type=Path, help="files that were dropped")
    parser.add_argument("--witness", type=Path, help="lines of a handler that notes its runs")
    parser.add_argument("--calm", action="store_true", help="nothing was killed or stopped meanwhile")
    parser.add_argument("--finished", action="store_true", help="everything had time to come to its end")
    parser.add_argument("--daemon", type=int, help="pid of the daemon that runs now")
    return parser.parse_args()


def main() -> int:
    """The exit code."""
    arguments = _arguments()
    evidence = Evidence(
        manifest=read_manifest(arguments.manifest) if arguments.manifest else None,
        witness=read_witness(arguments.witness) if arguments.witness else None,
        calm=arguments.calm,
        finished=arguments.finished,
        daemon=arguments.daemon,
    )
    found = violations(arguments.config, evidence)
    for fault in found:
        print(fault.encode("utf-8", "backslashreplace").decode())  # noqa: T201 - this is its answer
    print(f"{len(found)} violations of {len(CHECKS)} invariants")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
