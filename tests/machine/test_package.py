"""What the package brings to read."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from inboxd.config.models import TEMPORARY_NAMES
from support.machine import Machine

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
