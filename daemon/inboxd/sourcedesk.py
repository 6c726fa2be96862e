"""What operators may ask of sources: why nothing comes, and to ask now. Called in control threads.

What touches a running source or the ledger is asked of the pipeline's thread, which looks the source up, too: a
reload may have put another in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from inboxd.clock import Clock
from inboxd.config.load import source_specs
from inboxd.config.models import Config
from inboxd.custody.history import History
from inboxd.errors import UsageError
from inboxd.items import Item, ItemState
from inboxd.model import InboxFile, Outcome
from inboxd.pipeline import Pipeline
from inboxd.progress import counted, show_span
from inboxd.records import Row, row
from inboxd.source import Source
from inboxd.sourcetrial import examine
from inboxd.sourceview import condition, item_row, next_poll, rests, tell_item
from inboxd.wire import SourceSetup

T = TypeVar("T")

_NAMED = 5  # items told one by one
_OFTEN = 3  # failures of an acknowledgement in a row, before it is a problem
_ALL = 1 << 31
_PART = re.compile(r"([0-9a-f]{32})\.part")


class Ask(Protocol):
    """Has a question answered in the pipeline's thread. Raises InboxdError when it does not get to it."""

    def __call__(self, question: Callable[[], T]) -> T: ...


class SourceDesk:
    """Answers with data that can be written as JSON; raises InboxdError for what can't be done."""

    def __init__(self, pipeline: Pipeline, history: History, clock: Clock, ask: Ask) -> None:
        self._pipeline = pipeline
        self._history = history
        self._clock = clock
        self._ask = ask

    def _source(self, name: str) -> Source:
        try:
            return self._pipeline.errands.sources[name]
        except KeyError:
            known = ", ".join(self._pipeline.errands.sources)
            hint = f"there are: {known}" if known else "the configuration has none"
            raise UsageError(f"there is no source {name!r}", hint=hint) from None

    # Why nothing comes

    def explain(self, word: str) -> Row | None:
        """A source by its name, or items by what anybody calls them: their source, their file or its id."""
        sources = self._pipeline.errands.sources
        if word in sources:
            return self._explain_source(sources[word])
        found = self._history.items_called(list(sources), word, _NAMED)
        return self._explain_items(found) if found else None

    def explain_incoming(self, name: str) -> Row | None:
        """What lies in incoming/ under this name."""
        part = _PART.fullmatch(name)
        item = self._history.item_of_file(part[1]) if part else None
        return self._explain_items([item]) if item else None

    def _explain_source(self, source: Source) -> Row:
        why = self._ask(lambda: list(self._state_of(self._source(source.name))))
        counts = self._history.item_counts().get(source.name, {})
        told = ", ".join(f"{count} {_WORDS[state]}" for state, count in sorted(counts.items()) if state in _WORDS)
        states = (ItemState.DISCOVERED, ItemState.ACK_DUE, ItemState.ABANDONED)
        troubled = [item for state in states for item in self._history.items_in_trouble(source.name, state, _NAMED)]
        why += [f"items: {told}"] if told else []
        why += [tell_item(item, self._clock.time()) for item in troubled]
        return {"inbox": source.lane.name, "why": why, "file": None, "items": [item_row(item) for item in troubled]}

    def _state_of(self, source: Source) -> Iterator[str]:
        """In the pipeline's thread."""
        source.may_fetch(self._clock.monotonic())
        yield f"source {source.name}: {condition(source)}"
        full = source.full
        if full and not source.agenda.breaker.lets_pass:  # else that was told already
            yield f"nothing is fetched now: {full}"
        if self._pipeline.draining:
            yield "the daemon is stopping"
        left = next_poll(source)
        if left is not None:
            yield "the next poll is due" if left == 0.0 else f"the next poll is in {show_span(left)}"
        elif not (source.polling or source.has_found):
            yield "no further poll will come by its schedule"
        yield self._last_poll(source)
        yield from (f"degraded: {reason}" for reason in self._pipeline.outages.reasons(source.lane.name))

    def _last_poll(self, source: Source) -> str:
        if source.polled_at is None:
            return "no listing has come since the daemon started"
        ago = show_span(max(0.0, self._clock.time() - source.polled_at))
        return f"the last listing came {ago} ago: {source.listed} items, {source.new} of them new"

    def _explain_items(self, found: Sequence[Item]) -> Row:
        now, sources = self._clock.time(), self._pipeline.errands.sources
        files = [self._history.get(item.id) for item in found]
        why = [told for both in zip(found, files, strict=True) for told in self.tell(*both)]
        waiting = {item.source for item in found if item.state is ItemState.DISCOVERED and item.not_before <= now}
        for name in sorted(waiting):
            what = condition(sources[name]) if name in sources else "it is not in the configuration any more"
            why.append(f"source {name}: {what}")
        told = row(files[0]) if files[0] is not None else None
        return {"inbox": found[0].inbox, "why": why, "file": told, "items": [item_row(item) for item in found]}

    def tell(self, item: Item, file: InboxFile | None) -> list[str]:
        """What an item waits for, in sentences. `file`: what came of it."""
        told = [tell_item(item, self._clock.time())]
        if item.state is ItemState.HELD and file is not None and file.outcome is Outcome.ERROR:
            why = ": ".join(filter(None, (file.reason, file.message)))
            told.append(f"its file ended in errors/ ({why}); `inboxd retry {file.id}` runs it again")
        return told

    # Asking now

    def poll(self, source: str, again: bool = False, items: Sequence[str] | None = None) -> Row:
        """Poll it now; what waits for another try is due. `again`: so is what was given up, or what is named of it."""
        if items and not again:
            raise UsageError("to name items is for --again", hint="it fetches what was given up")
        return self._ask(partial(self._poll, source, again, list(items or ())))

    def _poll(self, name: str, again: bool, words: list[str]) -> Row:
        """In the pipeline's thread."""
        source = self._source(name)
        if self._pipeline.draining:
            raise UsageError("the daemon is stopping, and fetches nothing any more")
        book, now = self._pipeline.errands.items, self._clock.time()
        given_up = book.abandoned(source.name, _ALL) if again else []
        chosen = [item for item in given_up if not words or not _called(item).isdisjoint(words)]
        known = {word for item in chosen for word in _called(item)}
        renewed = [item._replace(state=ItemState.DISCOVERED, failures=0, not_before=0.0) for item in chosen]
        with self._pipeline.ledger.transaction():
            hurried = book.hurry(source.name, now)
            book.change("renew", renewed)
        under_way = bool(source.polling or source.has_found)
        source.ask_now()
        source.may_fetch(self._clock.monotonic())
        refused = {
            word: f"no item of {source.name} that was given up is called so" for word in words if word not in known
        }
        return {
            "source": source.name, "inbox": source.lane.name, "under_way": under_way, "hurried": hurried,
            "renewed": [item.name for item in renewed], "refused": refused, "full": source.full or None,
        }  # fmt: skip

    # Whether it can be reached

    def resting(self) -> list[str]:
        """Those that are away or refuse us, and items that do not come to an end by themselves: in words."""
        known = dict(self._pipeline.errands.sources)
        if not known:
            return []
        told = [f"source {name} {condition(source)}" for name, source in known.items() if rests(source)]
        counts, unheard = self._history.item_counts(), self._history.unheard(_OFTEN)
        held = self._history.held_by_errors()
        for name, source in known.items():
            if name in unheard:
                count, message = unheard[name]
                told.append(f"source {name}: {_failing(count)} ({message}); see `inboxd explain {name}`")
            if lost := counts.get(name, {}).get(ItemState.ABANDONED, 0):
                told.append(f"source {name}: given up: {counted(lost, 'item')}; see `inboxd explain {name}`")
            if name in held:
                told.append(f"source {name}: {_waiting(held[name], source.lane.name)}")
        return told

    def examine(self, name: str, config: Config) -> Row:
        """Ask it what it has, with a fetcher of its own, and change nothing."""
        source = self._source(name)
        setup = SourceSetup(name, source_specs(config)[name])
        known, secrets = self._history.items_known, config.secret_variables
        return examine(setup, source.lane.name, source.rules, secrets, known)


def _failing(count: int) -> str:
    return f"to tell it what we have fails again and again, for {counted(count, 'item')}"


def _waiting(count: int, inbox: str) -> str:
    what = f"it is not told of {counted(count, 'item')} whose file ended in errors/"
    return f"{what}; `inboxd files --inbox {inbox} --outcome error` lists these, `inboxd retry ID` runs one again"


def _called(item: Item) -> set[str]:
    return {item.item, item.name, item.id}


_WORDS = {
    ItemState.DISCOVERED: "to fetch", ItemState.FETCHING: "being fetched", ItemState.HELD: "here, and not processed",
    ItemState.ACK_DUE: "here, and not acknowledged", ItemState.ABANDONED: "given up",
}  # fmt: skip
