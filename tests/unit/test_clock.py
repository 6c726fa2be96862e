"""Time is injected: who asks the machine's clocks himself is named here, with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import inboxd

_ROOT = Path(inboxd.__file__).parent

#: Instants. All that waits, or orders anything, must bear a jump of them.
WALL = {
    "clock.py": "the clock itself",
    "model.py": "ids of what nobody looks for by its time",
    "checker/files.py": "for how long the doctor tells of a loss",
    "resources.py": "a process tells when it began by this clock",
    "fetch/answer.py": "Retry-After may be a date; what comes of it is bounded",
    "work/receipts.py": "a receipt says when it was made",
}
#: Spans, in processes or at moments that no test has to wait through.
MONOTONIC = {
    "clock.py": "the clock itself",
    "service.py": "systemd asks for this very clock (sd_notify(3))",
    "resources.py": "CPU time is compared with it",
    "control.py": "patience with the other end of a socket",
    "custody/session.py": "since when a ledger that hangs has been asked",
    "syncing.py": "since when a disk that hangs has been asked",
    "custody/opening.py": "a check that takes two seconds at most",
    "pool/generation.py": "before there is a daemon: how long an old one's workers are waited for",
    "pool/trial.py": "an errand of its own, beside the daemon's",
    "work/": "a worker's process",
    "fetch/": "a fetcher's process",
}
_CALLS = {
    "time": WALL, "time_ns": WALL, "now": WALL, "utcnow": WALL, "today": WALL,
    "monotonic": MONOTONIC, "monotonic_ns": MONOTONIC, "perf_counter": MONOTONIC, "clock_gettime": MONOTONIC,
}  # fmt: skip


def _asked() -> Iterator[tuple[str, str]]:
    """Module, and the function of `time` or `datetime` that it names."""
    for path in sorted(_ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            of = node.value if isinstance(node, ast.Attribute) else None
            if isinstance(of, ast.Name) and of.id in ("time", "datetime", "date") and node.attr in _CALLS:
                yield str(path.relative_to(_ROOT)), node.attr


def test_only_these_ask_the_machine() -> None:
    asked = list(_asked())
    for module, call in asked:
        assert any(module == known or module.startswith(known) for known in _CALLS[call]), f"{module}: {call}"
    for known in {*WALL, *MONOTONIC}:
        assert any(module.startswith(known) for module, _ in asked), f"{known} does so no longer"


def test_time_is_imported_as_a_whole() -> None:
    for path in _ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.module == "time"), path
