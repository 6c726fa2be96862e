"""What recovery needs of one inbox."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inboxd.custody.claim import Claims
from inboxd.custody.deliver import Deliveries
from inboxd.model import Concluded, InboxFile, Outcome, Report
from inboxd.sends import Send


@dataclass(frozen=True, slots=True)
class Keeper:
    """Its folders, and its rules."""

    inbox: str
    inbound: Path
    claims: Claims
    deliveries: Deliveries
    judge: Callable[[InboxFile, Report, float], Concluded]  # what follows from a report; wall clock, seconds
    decided: list[InboxFile]  # takes those that can't be delivered now
    sent: deque[list[Send]]  # takes the sends whose results can't leave work/ now


@contextlib.contextmanager
def placed(keeper: Keeper) -> Iterator[None]:
    """An error whose call was relative to a folder of this inbox says which inbox it is about."""
    try:
        yield
    except OSError as error:
        if not os.path.isabs(str(error.filename or "")):
            error.filename = str(keeper.claims.work.path)
        raise


def is_success_of_a_source(file: InboxFile) -> bool:
    """Its item may be acknowledged."""
    return file.source is not None and file.outcome is Outcome.PROCESSED
