"""How fast items come from a local HTTP partner, beside a bare requests loop with the same parallelism.

    python tests/bench/sources.py [--items 10000] [--parallel 4] [--rounds 3]

`./dev bench` runs it last. Both list, download and acknowledge every item of the same server, which is a process of its own, one after the other
in each round; the ratio is taken within a round. What inboxd does besides: rows, renames, a run of a handler, syncs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests
import yaml

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from support.daemon import run_daemon
from support.partner import ITEMS, PASSWORD, USER
from support.wait import wait_until

_HERE = Path(__file__).parent


def _partner(folder: Path, count: int) -> tuple[subprocess.Popen[str], str]:
    """A server with so many items of 1 KiB, all of them listed on one page."""
    folder.mkdir()
    for number in range(count):
        (folder / f"item-{number:06d}.dat").write_bytes(b"%06d" % number * 170)
    script = [sys.executable, str(_HERE.parent / "support" / "partner.py"), "--folder", str(folder)]
    script += ["--log", f"{folder}.log"]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    wait_until(lambda: _listed(url) == count, "the partner's outbox", 120)
    return process, url


def _acked(log: Path) -> int:
    """Acknowledgements that the partner has heard."""
    return log.read_bytes().count(b'"POST"')


def _listed(url: str) -> int:
    listing = requests.get(f"{url}/api/outbox", auth=(USER, PASSWORD), timeout=60).json()
    return len(listing["files"])


def _bare(base: Path, url: str, parallel: int) -> float:
    folder = base / "bare"
    folder.mkdir()
    began = time.monotonic()
    script = str(_HERE / "peers" / "bare_fetch.py")
    subprocess.run([sys.executable, script, url, str(folder), str(parallel), USER, PASSWORD], check=True)
    return time.monotonic() - began


def _inboxd(base: Path, url: str, parallel: int, log: Path, count: int) -> float:
    """From READY until every item is processed and acknowledged."""
    source = {
        "http": {
            "list": f"{url}/api/outbox", "items": ITEMS, "auth": {"basic": {"user": USER, "password": PASSWORD}},
            "ack": {"method": "POST", "url": f"{url}/api/outbox/{{id}}/ack"},
        },
        "parallel": parallel, "every": "1h", "backlog": 1_000_000,
    }  # fmt: skip
    inbox = {"root": "inbox", "handler": {"python": "hashing:handle"}, "layout": "", "sources": {"partner": source}}
    settings = {"state": "state", "durability": "process", "min_free_space": "1MiB", "inboxes": {"main": inbox}}
    base.mkdir()
    (base / "hashing.py").write_bytes((_HERE / "peers" / "hashing.py").read_bytes())
    config = base / "config.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with run_daemon(config):
        began = time.monotonic()
        wait_until(lambda: _acked(log) >= count and _processed(base) == count, "the last acknowledgement", 1800, 0.5)
        return time.monotonic() - began


def _processed(base: Path) -> int:
    return sum(1 for _ in (base / "inbox" / "processed").iterdir())


def measure(items: int, parallel: int, rounds: int) -> str:
    """The table."""
    ratios, lines = [], [f"{'':16}{'bare, items/s':>15}{'inboxd, items/s':>17}{'x bare':>8}"]
    for number in range(rounds):
        rates = {}
        for who in ("bare", "inboxd") if number % 2 == 0 else ("inboxd", "bare"):
            print(f"  sources {items:,}, round {number + 1}: {who}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="inboxd-bench-") as name:
                rates[who] = _rate(Path(name), who, items, parallel)
        ratios.append(rates["inboxd"] / rates["bare"])
        lines.append(
            f"sources {items:,}".ljust(16) + f"{rates['bare']:>15.0f}{rates['inboxd']:>17.0f}{ratios[-1]:>8.2f}"
        )
    lines.append(f"median ratio {statistics.median(ratios):.2f}, {parallel} at once")
    return "\n".join(lines)


def _rate(folder: Path, who: str, items: int, parallel: int) -> float:
    process, url = _partner(folder / "outbox", items)
    try:
        base = folder / who
        if who == "bare":
            base.mkdir()
            return items / _bare(base, url, parallel)
        return items / _inboxd(base, url, parallel, folder / "outbox.log", items)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sources beside a bare requests loop.")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    print(measure(chosen.items, chosen.parallel, chosen.rounds))


if __name__ == "__main__":
    main()
