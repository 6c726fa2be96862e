"""check --connect: whether sources can be reached, with no daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inboxd.cli import sourcepages
from inboxd.cli.client import has_run
from inboxd.cli.output import show
from inboxd.cli.page import Text
from inboxd.config.load import source_specs
from inboxd.config.models import Config
from inboxd.custody.history import History
from inboxd.errors import LedgerError, UsageError
from inboxd.items import ItemState
from inboxd.sourcetrial import Known, examine
from inboxd.wire import SourceSetup

EXIT_FOUND = 1  # done, and not all is well


def examine_all(config: Config, only: str) -> int:
    """All sources, or one, each told when it has answered; 1 when one does not. Raises UsageError."""
    rules = {name: (inbox, one) for inbox, all in config.inboxes.items() for name, one in all.sources.items()}
    if only and only not in rules:
        raise UsageError(f"there is no source {only!r}", hint=f"there are: {', '.join(rules) or 'none'}")
    specs, known = source_specs(config), _known(config)
    problems = 0
    for name, (inbox, source) in rules.items():
        if only in ("", name):
            found = examine(SourceSetup(name, specs[name]), inbox, source, config.secret_variables, known)
            show(sourcepages.examined(found))
            problems += found["problem"] is not None
    if not rules:
        show([Text("there are no sources to connect to")])
    return EXIT_FOUND if problems else 0


def _known(config: Config) -> Known:
    """What the ledger has of items; nothing where no daemon has made one yet. Says so when it can't be read."""
    history = History(config.ledger_url) if has_run(config.state) else None
    told: list[str] = []

    def known(source: str, words: Sequence[str]) -> Mapping[tuple[str, str], ItemState]:
        try:
            return history.items_known(source, words) if history is not None and not told else {}
        except LedgerError as error:
            told.append(f"what is known already can't be told: {error}")
            show([Text(told[0], "warn")])
            return {}

    return known
