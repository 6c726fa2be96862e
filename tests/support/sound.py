"""The last line of every system test: the invariants hold."""

from __future__ import annotations

from typing import Any

from support.invariants import Evidence, violations
from support.site import Site
from support.wait import wait_until


def assert_sound(site: Site, **evidence: Any) -> None:
    """Fail with every violation. The daemon is stopped, killed or idle (`daemon=PID`)."""
    witness = site.witnessed() if site.witness_log.exists() else None
    known = Evidence(manifest=site.manifest, witness=witness, **evidence)
    found = violations(site.config, known)
    assert not found, "\n".join(found[:40])


def wait_finished(site: Site, count: int, inbox: str = "main", timeout: float = 30.0) -> None:
    """So many files have come to an end."""
    wait_until(
        lambda: site.finished(inbox) >= count, f"{count} finished files in {inbox}", timeout, 0.02 + count / 50_000
    )
