"""The wheel that the README has one build is whole, and runs on its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PIP = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]


def test_a_wheel_is_all_that_is_needed(tmp_path: Path) -> None:
    made, place = tmp_path / "made", tmp_path / "place"
    subprocess.run([*_PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", made, _ROOT], check=True)
    (wheel,) = made.glob("inboxd-*.whl")
    subprocess.run([*_PIP, "install", "--no-deps", "--target", place, wheel], check=True)

    alone = {**os.environ, "PYTHONPATH": str(place)}
    where = [sys.executable, "-c", "import inboxd; print(inboxd.__file__)"]
    assert subprocess.check_output(where, env=alone, cwd=tmp_path, text=True).startswith(str(place))
    assert _files(place) == _files(_ROOT / "daemon")

    folder = tmp_path / "intake"
    script = [sys.executable, place / "bin" / "inboxd"]
    subprocess.run([*script, "init", folder], env=alone, cwd=tmp_path, check=True)
    subprocess.run([*script, "check", "-c", folder / "config.yaml"], env=alone, cwd=tmp_path, check=True)


def _files(folder: Path) -> list[Path]:
    found = [path for path in (folder / "inboxd").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return sorted(path.relative_to(folder) for path in found)
