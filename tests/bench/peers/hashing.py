"""The handler of all candidates: SHA-256 of the content."""

from __future__ import annotations

import hashlib

from inboxd import File


def handle(file: File) -> dict[str, str]:
    with open(file.path, "rb", buffering=0) as stream:
        return {"sha256": hashlib.sha256(stream.read()).hexdigest()}
