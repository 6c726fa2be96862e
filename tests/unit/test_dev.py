"""The door of the repository: ./dev, the locks, the samples."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "packaging/requirements").glob("*.txt"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_host(lock: Path) -> None:
    """No URL, and no option of pip at all: hashes are the only words with dashes before them, and are indented."""
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^-|^\s+-(?!-hash=sha256:)", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_everything_locked_has_its_hashes(lock: Path) -> None:
    packages = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert packages
    assert [one for one in packages if not one.startswith("#") and "--hash=sha256:" not in one] == []


@pytest.mark.parametrize(("lock", "group"), [("run.txt", "dependencies"), ("dev.txt", "dev")])
def test_whatever_the_project_asks_for_is_locked(lock: str, group: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] if group == "dependencies" else project["dependency-groups"][group]
    locked = set(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", (ROOT / "packaging/requirements" / lock).read_text(), re.M))
    assert {re.match(r"[\w.-]+", one).group() for one in wanted} - locked == set()  # type: ignore[union-attr]


def test_the_two_locks_agree() -> None:
    run, dev = (
        dict(
            re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", (ROOT / "packaging/requirements" / name).read_text(), re.M)
        )
        for name in ("run.txt", "dev.txt")
    )
    assert {name: dev.get(name) for name in run} == run


def test_dev_is_a_posix_shell_script_and_says_what_it_can() -> None:
    subprocess.run(["sh", "-n", "dev"], cwd=ROOT, check=True)
    said = subprocess.run(["./dev", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for task in ("run", "test", "check", "bench", "docs"):
        assert f"./dev {task}" in said


def test_an_unknown_task_is_a_usage_error() -> None:
    assert subprocess.run(["./dev", "fly"], cwd=ROOT, capture_output=True, check=False).returncode == 64


def test_every_sample_names_its_source() -> None:
    samples = ROOT / "packaging/samples"
    sources = (samples / "SOURCES.md").read_text()
    assert [
        path.name for path in samples.iterdir() if path.name != "SOURCES.md" and f"`{path.name}`" not in sources
    ] == []


#: A project that needs nothing, and builds itself.
_PROJECT = """\
[build-system]
requires = []
build-backend = "sample"
backend-path = ["."]
[project]
name = "sample"
version = "1"
"""
_SAMPLE = """\
import os, zipfile
def build_editable(folder, *_):
    with zipfile.ZipFile(f"{folder}/sample-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("sample.pth", os.getcwd())
        wheel.writestr("sample-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: sample\\nVersion: 1\\n")
        wheel.writestr("sample-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("sample-1.dist-info/RECORD", "")
    return "sample-1-py3-none-any.whl"
"""


def _set_up(checkout: Path) -> None:
    """As each task of ./dev does first; what it sets up runs, and runs what lies here."""
    subprocess.run(["sh", "-c", ". ./dev >/dev/null; environment run"], cwd=checkout, check=True)
    scripts = checkout / ".venv/bin"
    asked = ([scripts / "pip", "--version"], [scripts / "python", "-P", "-c", "import sample; print(sample.__file__)"])
    for words in asked:
        said = subprocess.run(words, cwd=checkout.parent, check=True, capture_output=True, text=True).stdout
        assert f"{checkout}/" in said, said


def test_a_checkout_that_was_copied_runs_its_own_code(tmp_path: Path) -> None:
    first = tmp_path / "first"
    locks = first / "packaging/requirements"
    locks.mkdir(parents=True)
    for lock in ("run.txt", "build.txt"):
        (locks / lock).touch()
    shutil.copy(ROOT / "dev", first)
    (first / "pyproject.toml").write_text(_PROJECT)
    (first / "sample.py").write_text(_SAMPLE)
    _set_up(first)
    shutil.copytree(first, tmp_path / "copied", symlinks=True)
    _set_up(tmp_path / "copied")
