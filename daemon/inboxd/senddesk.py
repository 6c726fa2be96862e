"""What operators may ask of destinations: why nothing goes, to send now, to give up. Called in control threads.

What touches a running destination or the ledger is asked of the pipeline's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from inboxd import events
from inboxd.clock import Clock
from inboxd.config.models import Config
from inboxd.custody.history import History
from inboxd.destination import Destination
from inboxd.errors import UsageError
from inboxd.events import emit
from inboxd.model import results_name
from inboxd.outbox import is_open
from inboxd.pipeline import Pipeline
from inboxd.progress import counted
from inboxd.records import Row
from inboxd.sends import Send, SendState
from inboxd.sendtrial import look_at
from inboxd.sendview import UNKNOWN, condition, remedy, rests, send_row, tell_send, unknown
from inboxd.sourcedesk import Ask

_NAMED = 5  # results told one by one


class SendDesk:
    """Answers with data that can be written as JSON; raises InboxdError for what can't be done."""

    def __init__(self, pipeline: Pipeline, history: History, clock: Clock, ask: Ask) -> None:
        self._pipeline = pipeline
        self._history = history
        self._clock = clock
        self._ask = ask

    def knows(self, name: str) -> bool:
        """It is in the configuration, or something is still to be sent to it."""
        return name in self._pipeline.outbox.destinations or name in self._history.send_counts()

    # Why nothing goes

    def explain(self, word: str) -> Row | None:
        """A destination by its name; or results that have not come to an end, by name or id."""
        if not self.knows(word):
            return self._explain_results(self._history.sends_called(word, _NAMED))
        one = self._pipeline.outbox.destinations.get(word)
        why = [f"destination {word}: {condition(one) if one else unknown(word)}"]
        counts = self._history.send_counts().get(word, {})
        told = ", ".join(f"{count} {_WORDS[state]}" for state, count in sorted(counts.items()) if state in _WORDS)
        why += [f"results: {told}"] if told else []
        troubled, now = self._history.sends_in_trouble(word, _NAMED), self._clock.time()
        why += [tell_send(send, now) for send in troubled]
        why += [f"degraded: {reason}" for reason in self._pipeline.outages.reasons()]
        inbox = one.lane.name if one else ""
        return {"inbox": inbox, "why": why, "file": None, "items": [], "sends": [send_row(send) for send in troubled]}

    def _explain_results(self, found: Sequence[Send]) -> Row | None:
        if not found:
            return None
        why, known = list[str](), self._pipeline.outbox.destinations
        for send in found:
            why += [tell_send(send, self._clock.time()), *self._place(send)]
        for name in sorted({send.destination for send in found}):
            one = known.get(name)
            why.append(f"destination {name}: {condition(one) if one else unknown(name)}")
        rows = [send_row(send) for send in found]
        return {"inbox": found[0].inbox, "why": why, "file": None, "items": [], "sends": rows}

    def _place(self, send: Send) -> list[str]:
        lane = self._pipeline.lanes.get(send.inbox)
        return [f"it lies at {lane.work / results_name(send.file_id) / send.name}"] if lane is not None else []

    # Sending now

    def send(self, name: str, again: bool, drop: bool, words: Sequence[str]) -> Row:
        """Try it now. `again`: what was given up, too, or what is named of it; `drop`: send that no more."""
        if again and drop:
            raise UsageError("--again and --drop exclude each other")
        if words and not (again or drop):
            raise UsageError("to name results is for --again and --drop", hint="the first sends what was given up")
        if not self.knows(name):
            known = ", ".join(self._pipeline.outbox.destinations)
            hint = f"there are: {known}" if known else "the configuration has none"
            raise UsageError(f"there is no destination {name!r}", hint=hint)
        return self._ask(partial(self._send, name, "drop" if drop else "renew" if again else "", list(words)))

    def _send(self, name: str, verb: str, words: list[str]) -> Row:
        """In the pipeline's thread."""
        outbox, now = self._pipeline.outbox, self._clock.time()
        if self._pipeline.draining:
            raise UsageError("the daemon is stopping, and sends nothing any more")
        one = outbox.destinations.get(name)
        if one is None and verb != "drop":
            raise UsageError(f"destination {name} {UNKNOWN}, and nothing can be sent to it", hint=remedy(name))
        chosen = self._chosen(name, one, verb, words) if verb else []
        with self._pipeline.ledger.transaction():
            hurried = outbox.sends.hurry(name, now) if verb != "drop" else 0
            changed = [_changed(send, verb, now) for send in chosen]
            if changed:
                outbox.sends.change(verb, changed)
            ended = outbox.sends.of_files({send.file_id for send in changed}) if verb == "drop" else {}
        if one is not None and verb != "drop":
            one.send_now()
        self._let_go(changed if verb == "drop" else [], ended)
        left = outbox.sends.counts().get(name, {})
        known = {word for send in chosen for word in _called(send)}
        refused = {
            word: f"no result for {name} that could be meant is called so" for word in words if word not in known
        }
        return {
            "destination": name, "condition": condition(one) if one else UNKNOWN, "hurried": hurried,
            "due": left.get(SendState.DUE, 0), "abandoned": left.get(SendState.ABANDONED, 0),
            "renewed": [send.name for send in changed if verb == "renew"],
            "dropped": [send.name for send in changed if verb == "drop"], "refused": refused,
        }  # fmt: skip

    def _chosen(self, name: str, one: Destination | None, verb: str, words: list[str]) -> list[Send]:
        """Those named; else all that were given up. What waits is dropped only by name, or with its destination."""
        under_way = one.sending if one is not None else {}
        found = [send for send in self._pipeline.outbox.sends.open_to(name) if send.id not in under_way]
        if words:
            found = [send for send in found if not _called(send).isdisjoint(words)]
        everything = verb == "drop" and (words or one is None)
        return [send for send in found if everything or send.state is SendState.ABANDONED]

    def _let_go(self, dropped: Sequence[Send], ended: dict[str, list[Send]]) -> None:
        lanes = self._pipeline.lanes
        for send in dropped:
            emit(
                events.RESULT_DROPPED, inbox=send.inbox, destination=send.destination, file=send.name,
                file_id=send.file_id, user="an operator",
            )  # fmt: skip
        for sends in ended.values():
            if sends[0].inbox in lanes and not is_open(sends):
                lanes[sends[0].inbox].sent.append(sends)

    # Whether it can be reached

    def resting(self) -> list[str]:
        """Those that are away or refuse us, have given up something, or are unknown: in words."""
        known, counts = dict(self._pipeline.outbox.destinations), self._history.send_counts()
        told = [f"destination {name} {condition(one)}" for name, one in known.items() if rests(one)]
        for name, states in counts.items():
            if name not in known:
                told.append(f"destination {name} {UNKNOWN}, and {_wait(sum(states.values()))} for it: {remedy(name)}")
            elif lost := states.get(SendState.ABANDONED, 0):
                told.append(f"destination {name}: given up: {counted(lost, 'result')}; see `inboxd explain {name}`")
        return told

    def examine(self, name: str, config: Config) -> Row:
        """Look at it, with a fetcher of its own, and leave nothing there."""
        one = self._pipeline.outbox.destinations.get(name)
        if one is None:
            raise UsageError(f"destination {name} {UNKNOWN}")
        return look_at(name, one.lane.name, config)


def _wait(count: int) -> str:
    return f"{counted(count, 'result')} {'waits' if count == 1 else 'wait'}"


def _changed(send: Send, verb: str, now: float) -> Send:
    return send._replace(ended_at=now) if verb == "drop" else send._replace(failures=0, not_before=0.0)


def _called(send: Send) -> set[str]:
    return {send.id, send.name, send.file_id}


_WORDS = {SendState.DUE: "to send", SendState.ABANDONED: "given up"}
