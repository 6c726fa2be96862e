"""The environment a worker starts with: ours, without what a handler must not see or would misread. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

#: Talk between systemd and the daemon alone (sd_notify(3), sd_listen_fds(3), systemd.exec(5)).
_OURS = re.compile(r"NOTIFY_SOCKET|WATCHDOG_.*|LISTEN_.*|CREDENTIALS_DIRECTORY|FDSTORE|JOURNAL_STREAM")
_SECRET_NAME = re.compile(
    r"PASSW|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH_?KEY|DSN\b|(^|_)(PWD|PAT)$",
    re.IGNORECASE,
)  # fmt: skip
_SECRET_VALUE = re.compile(r"://[^/@\s]*:[^/@\s]+@")  # a URL with a password in it
_KEPT = frozenset({"PWD", "OLDPWD"})


def worker_environment(environ: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    """What of `environ` a worker may see.

    `secrets` names the variables that the configuration reads secrets from.
    """
    return {name: value for name, value in environ.items() if name not in secrets and _harmless(name, value)}


def _harmless(name: str, value: str) -> bool:
    if name in _KEPT:
        return True
    return not (_OURS.fullmatch(name) or _SECRET_NAME.search(name) or _SECRET_VALUE.search(value))
