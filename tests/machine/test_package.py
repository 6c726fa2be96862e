"""What the package brings to read, and where it can be built."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

from inboxd.config.models import TEMPORARY_NAMES
from support.machine import Machine
from support.service import CONFIG, UNIT

_HERE = Path(__file__).parents[2]
_BUILD = _HERE / "packaging" / "deb" / "build"
_DOC = "/usr/share/doc/inboxd"


def test_every_link_of_its_pages_leads_to_a_file(installed: Machine) -> None:
    pages = installed.shell(f"find {_DOC} -name '*.md'").stdout.split()
    assert f"{_DOC}/README.md" in pages
    assert f"{_DOC}/docs/operations.md" in pages
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)", installed.run("cat", page).stdout):
            target = str(PurePosixPath(page).parent / link)
            assert "://" in link or not installed.run("test", "-e", target, check=False).returncode, f"{page}: {link}"


def test_the_man_page_has_the_temporary_names_as_they_are(installed: Machine) -> None:
    page = installed.run("zcat", "/usr/share/man/man5/inboxd.yaml.5.gz").stdout
    (line,) = (line for line in page.splitlines() if line.startswith("What ") and "leaves alone" in line)
    shown = re.sub(r"\\f\w", "", line.replace(r"\(ti", "~"))
    assert shown == f"What ignore_temporary leaves alone: {', '.join(TEMPORARY_NAMES)}."


def test_the_units_by_hand(service: Machine) -> None:
    """By the lines of the README, and once more: what is configured stays. The package stands for what pip installs."""
    (block,) = re.findall(r"^```sh\n(install .*?)^```", (_HERE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for name in ("systemd", "packaging/deb"):
        service.push(_HERE / name, f"/root/inboxd/{name}")
    service.shell("ln -s /usr/lib/inboxd /opt/inboxd; rm /etc/inboxd/config.yaml")
    try:
        service.shell(f"cd /root/inboxd\n{block}")
        service.write("/etc/inboxd/config.yaml", CONFIG)
        service.shell(f"cd /root/inboxd\n{block}")
        assert service.run("cat", "/etc/inboxd/config.yaml").stdout == CONFIG
        assert service.run("/usr/local/bin/inboxd", "check").stdout
        for unit in (UNIT, "inboxd@two.service"):
            assert "/opt/inboxd/bin/inboxd run" in service.run("systemctl", "cat", unit).stdout
        assert service.run("test", "-e", "/usr/local/lib/systemd/catalog/inboxd.catalog")
    finally:
        service.shell(
            "rm -r /etc/systemd/system/inboxd*.service /etc/sysusers.d/inboxd.conf /etc/tmpfiles.d/inboxd.conf /opt/inboxd"
            " /usr/local/bin/inboxd /usr/local/lib/systemd/catalog/inboxd.catalog; journalctl --update-catalog;"
            f"systemctl daemon-reload; systemctl reenable {UNIT}; systemctl restart {UNIT}"
        )


def test_a_path_with_a_space_is_refused_before_all_else(tmp_path: Path) -> None:
    here = tmp_path / "my inboxd"
    (here / "packaging" / "deb").mkdir(parents=True)
    build = shutil.copy(_BUILD, here / "packaging" / "deb")
    done = subprocess.run([build], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{here}: no package can be built in a path with white space")
