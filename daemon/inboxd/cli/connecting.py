"""check --connect: whether sources and destinations can be reached, with no daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inboxd.cli import sendpages, sourcepages
from inboxd.cli.client import has_run
from inboxd.cli.output import show
from inboxd.cli.page import Text
from inboxd.config.load import source_specs
from inboxd.config.models import Config
from inboxd.custody.history import History
from inboxd.errors import LedgerError, UsageError
from inboxd.items import ItemState
from inboxd.sendtrial import look_at
from inboxd.sourcetrial import Known, examine
from inboxd.wire import SourceSetup

EXIT_FOUND = 1  # done, and not all is well


def examine_all(config: Config, only: str) -> int:
    """All of them, or one, each told when it has answered; 1 when one does not. Raises UsageError."""
    sources = {name: inbox for inbox, rules in config.inboxes.items() for name in rules.sources}
    destinations = {name: inbox for inbox, rules in config.inboxes.items() for name in rules.destinations}
    names = [*sources, *destinations]
    if only and only not in names:
        known = ", ".join(names) or "none"
        raise UsageError(f"there is no source and no destination {only!r}", hint=f"there are: {known}")
    specs, known_items = source_specs(config), _known(config)
    problems = 0
    for name in [only] if only else names:
        if name in sources:
            inbox = sources[name]
            rules, setup = config.inboxes[inbox].sources[name], SourceSetup(name, specs[name])
            found = examine(setup, inbox, rules, config.secret_variables, known_items)
            show(sourcepages.examined(found))
        else:
            found = look_at(name, destinations[name], config)
            show(sendpages.examined(found))
        problems += found["problem"] is not None
    if not names:
        show([Text("there are no sources and no destinations to connect to")])
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
