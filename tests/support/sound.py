"""The last line of every system test: the invariants hold."""

from __future__ import annotations

from typing import Any

from support.invariants import Evidence, violations
from support.site import Site
from support.wait import wait_until


def assert_sound(site: Site, **evidence: Any) -> None:
    """Fail with every violation. The daemon is stopped, killed or idle (`daemon=PID`)."""
    if "daemon" not in evidence:  # workers see the death of a killed daemon after the file in progress
        wait_until(lambda: not survivors(site), "the workers' end")
    witness = site.witnessed() if site.witness_log.exists() else None
    known = Evidence(manifest=site.manifest, witness=witness, **evidence)
    found = violations(site.config, known)
    assert not found, "\n".join(found[:40])


def survivors(site: Site) -> list[str]:
    """Processes of a daemon that has ended."""
    return [found for found in violations(site.config, Evidence(manifest=[], witness=None)) if found.startswith("I13")]


def wait_finished(site: Site, count: int, inbox: str = "main", timeout: float = 30.0) -> None:
    """So many files have come to an end."""
    wait_until(
        lambda: site.finished(inbox) >= count, f"{count} finished files in {inbox}", timeout, 0.02 + count / 50_000
    )
