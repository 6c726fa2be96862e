"""The template is the unit, but for the names of an instance."""

from __future__ import annotations

import re
from pathlib import Path

SYSTEMD = Path(__file__).parents[2] / "systemd"


def _settings(name: str) -> list[str]:
    lines = (SYSTEMD / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_an_instance_is_the_service_by_another_name() -> None:
    swapped = [
        re.sub(r"/etc/inboxd/config\.yaml", "/etc/inboxd/%i.yaml", line)
        .replace("StateDirectory=inboxd", "StateDirectory=inboxd-%i")
        .replace("drop-folder ingestion", "drop-folder ingestion (%i)")
        for line in _settings("inboxd.service")
    ]
    assert _settings("inboxd@.service") == swapped


def test_each_reason_of_a_setting_stands_in_both() -> None:
    unit, template = ((SYSTEMD / name).read_text(encoding="utf-8") for name in ("inboxd.service", "inboxd@.service"))
    assert unit[unit.index("[Unit]") :].count("#") == template[template.index("[Unit]") :].count("#")
