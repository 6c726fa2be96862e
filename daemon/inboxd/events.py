"""Every event inboxd logs: its stable name, its level, its wording. The only place with log texts.

`emit(events.FILE_PROCESSED, inbox=…, file_id=…, file=…)`. The fields reach the journal as INBOXD_INBOX and so on.
Wording is filled in after every value has been made harmless (control characters and lone surrogates escaped), so
that no file name can forge a log line.
"""

from __future__ import annotations

from inboxd.event import LEVELS, Event, Level, Sink, emit, is_told, nowhere, send_to

__all__ = ["LEVELS", "Event", "Level", "Sink", "emit", "is_told", "nowhere", "send_to"]  # and every event below

# The daemon
DAEMON_STARTING = Event(
    "daemon.starting", "INFO", "inboxd {version} starts on {config} (pid {pid})",
    "A daemon begins: it reads its configuration, makes folders and repairs what the last one left.",
)  # fmt: skip
DAEMON_REFUSED = Event(
    "daemon.refused", "ERROR", "inboxd does not start: {message}",
    "The configuration is wrong, or a precondition is not met. Nothing was touched.",
    "Do what the message says; `inboxd check` tells whether it is right. Then `systemctl restart inboxd`.",
)  # fmt: skip
START_HANGS = Event(
    "daemon.start-hangs", "ERROR", "the start hangs: {reason}; systemd is asked for no more time",
    "No step of a start takes half an hour, unless what it waits for is away: a disk, or the ledger. systemd ends it "
    "soon, and starts inboxd again. Nothing accepted is lost.",
    "See that the ledger and the disks of state and inboxes answer; `systemctl status inboxd` tells of the next start.",
)  # fmt: skip
DAEMON_READY = Event(
    "daemon.ready", "INFO", "ready; inboxes: {inboxes}, workers: {workers}, durability: {durability}",
    "Recovery is done, every inbox has been looked at once, and files are being taken.",
)  # fmt: skip
DAEMON_DRAINING = Event(
    "daemon.draining", "INFO", "draining ({cause}): no new claims, up to {grace} for files in progress",
    "inboxd is about to stop. Files in progress may finish within stop_grace; the others wait, uncharged.",
)  # fmt: skip
DAEMON_STOPPED = Event("daemon.stopped", "INFO", "stopped", "The daemon has ended in good order.")
DAEMON_UNRECORDED = Event(
    "daemon.unrecorded", "WARNING", "stopping all the same: what has come to an end could not be recorded: {reason}",
    "The ledger, or a folder, was away when it had to end. Nothing accepted is lost: the next start records it.",
    "See that what is away comes back; then start inboxd.",
)  # fmt: skip
DAEMON_FAILED = Event(
    "daemon.failed", "CRITICAL", "{thread} ended by {error_class}: {message}; inboxd stops at once",
    "A part of the daemon that must never end has ended. Nothing accepted is lost; recovery runs at the next start.",
    "LedgerRefused: do what it says, and start inboxd. Else report INBOXD_DETAIL; systemd has started inboxd again.",
)  # fmt: skip
DEGRADED = Event(
    "daemon.degraded", "ERROR", "degraded: {reason}; what we hold is safe, work resumes by itself",
    "Something inboxd needs (ledger, disk) is away. Nothing is claimed, nothing is lost.",
    "Bring back what the message names; `inboxd status` shows when work goes on.",
)  # fmt: skip
RESUMED = Event(
    "daemon.resumed", "WARNING", "resumed: {reason} is over after {seconds:.1f} s",
    "What was away is back, and work goes on. A warning, so that it stands beside the trouble it ends.",
)  # fmt: skip
RELOADED = Event(
    "daemon.reloaded", "INFO", "configuration reloaded: {changes}",
    "The new configuration is in force; files that were under way ended under the old one.",
)  # fmt: skip
RELOAD_WAITS = Event(
    "daemon.reload-waits", "INFO",
    "the new configuration is accepted; it is in force when these inboxes have finished what they have: {inboxes}",
    "Inboxes that change take nothing new, and finish what they have under their old rules. Then all takes effect.",
    "If it takes too long, look at what their workers do: `inboxd status`.",
)  # fmt: skip
RELOAD_REFUSED = Event(
    "daemon.reload-refused", "ERROR", "configuration refused, the old one keeps running: {message}",
    "A reload was asked for, and the file is wrong. Nothing has changed.",
    "Mend what the message names by its line, and reload again; of a fault of inboxd, report INBOXD_DETAIL.",
)  # fmt: skip
CONTROL_ASKED = Event(
    "control.asked", "INFO", "uid {uid} asks: {request}",
    "Somebody changed something through the command line: who, and what.",
)  # fmt: skip
CONTROL_FAILED = Event(
    "control.failed", "ERROR", "`{verb}` could not be answered: {error_class}: {message}",
    "An operator's request met a fault of inboxd. The daemon goes on.",
    "Report it, with the traceback in INBOXD_DETAIL.",
)  # fmt: skip
WORKERS_AWAITED = Event(
    "daemon.waiting", "WARNING", "workers of an earlier inboxd (pid {pids}) still run; waiting up to {timeout:.0f} s",
    "The last daemon has died, and its workers finish the file in progress. No file is run twice at the same time.",
    "Nothing; or end them with `kill -KILL`, which costs their files an attempt and no failure.",
)  # fmt: skip
RECOVERED = Event(
    "daemon.recovered", "INFO", "recovered in {seconds:.2f} s: {summary}",
    "Rows and folders agree again after the last stop; what it took is counted in the message.",
)  # fmt: skip
RESOURCES = Event(
    "resources", "INFO", "resources: {summary}",
    "Memory, CPU, descriptors, queue and free disk, once per `resources.every`; the figures are in the fields.",
)  # fmt: skip
PROGRESS = Event(
    "progress", "INFO", "{inbox}: {summary}",
    "How far an inbox is: count, share, rate, and the time that is left at that rate.",
)  # fmt: skip
LOG_DROPPED = Event(
    "log.dropped", "WARNING", "{count} log records were dropped here",
    "The log was written faster than it was taken for longer than 10,000 records. Files were not held up by it.",
    "`inboxd show ID` and `inboxd files` have every file's story; see why journald was slow.",
)  # fmt: skip

# Inboxes
INBOX_WATCHED = Event(
    "inbox.watched", "INFO", "inbox {inbox}: {folder} is looked at by {how}", "How new files are found there.",
)  # fmt: skip
INBOX_POLLING = Event(
    "inbox.polling", "WARNING", "inbox {inbox}: no kernel events ({reason}); polling every {every}",
    "The folder is looked through at intervals: network file systems tell nothing of other machines' writes, and the "
    "kernel's watches are limited.",
    "Nothing on a network file system. Else raise fs.inotify.max_user_watches (or _instances) and restart.",
)  # fmt: skip
INBOX_OVERFLOW = Event(
    "inbox.overflow", "WARNING", "inbox {inbox}: the kernel dropped events; looking through it at once",
    "More happened at once than the kernel keeps. No file is missed: the folder itself is the truth.",
    "Nothing; if it is frequent, raise fs.inotify.max_queued_events.",
)  # fmt: skip
INBOX_AWAY = Event(
    "inbox.away", "ERROR", "inbox {inbox}: {folder} is away ({reason}); nothing is taken for gone",
    "The folder is missing, replaced, or its mount is gone. What was claimed is safe; the inbox waits.",
    "Mount it or make it again; the inbox goes on by itself within seconds.",
)  # fmt: skip
INBOX_BACK = Event(
    "inbox.back", "WARNING", "inbox {inbox}: {folder} is back", "The folder is there again, and is looked through."
)
INBOX_PAUSED = Event(
    "inbox.paused", "WARNING", "inbox {inbox} paused: {reason}",
    "Nothing of this inbox is taken or run; uploads wait in inbound/.",
    "`inboxd resume INBOX` when the reason is gone; if its handler can't be run, mend that, then `inboxd reload`.",
)  # fmt: skip
INBOX_RESUMED = Event("inbox.resumed", "INFO", "inbox {inbox} resumed", "An operator or a reload let it go on.")
SPACE_LOW = Event(
    "disk.low", "ERROR", "inbox {inbox}: {free} free on {folder}, {needed} wanted; claiming stops until there is more",
    "Claiming stops below min_free_space or min_free_inodes. Uploaded files wait untouched.",
    "Free some space; claiming resumes by itself.",
)  # fmt: skip
SPACE_BACK = Event(
    "disk.back", "WARNING", "inbox {inbox}: {free} free on {folder}; claiming goes on",
    "There is enough room on the disk again.",
)  # fmt: skip

# Files
FILE_CLAIMED = Event(
    "file.claimed", "DEBUG", "{inbox}/{file} claimed", "It lies in work/ and has its row: it is ours from here on."
)
FILE_ABANDONED = Event(
    "file.abandoned", "INFO", "{inbox}/{file} was not taken: {reason}",
    "Its uploader took, replaced or changed it first, or it can't be moved. It was never ours.",
    "Nothing, unless the reason says that it can't be moved: then look at the folder's owner and mode.",
)  # fmt: skip
FILE_PROCESSED = Event(
    "file.processed", "INFO", "{inbox}/{file} processed in {seconds:.3f} s",
    "The handler succeeded, and the file lies in processed/.",
)  # fmt: skip
FILES_PROCESSED = Event(
    "files.processed", "INFO", "{count} files of {inbox} processed, the longest in {seconds:.3f} s",
    "Files of an inbox that were processed within a quarter of a second: above 20 a second they share lines. Each has "
    "INBOXD_FILE_ID once for each of them, and INBOXD_SECONDS of the longest run.",
)  # fmt: skip
BATCH_HALVED = Event(
    "batch.halved", "WARNING", "{count} files of {inbox} failed together: {message}; their halves run apart",
    "A handler that takes a whole batch failed, or its worker died. None of the files is charged until the culprit is "
    "alone; the others may have been run more than once.",
    "Nothing, unless it repeats: INBOXD_DETAIL has the traceback, or what the program printed last.",
)  # fmt: skip
FILE_WAITING = Event(
    "file.waiting", "WARNING", "{inbox}/{file} {ending} in attempt {attempt}: {message}; again in {delay:.1f} s",
    "A run failed and the retry policy grants another.",
    "Nothing, unless it repeats: INBOXD_DETAIL and `inboxd show ID` have the traceback.",
)  # fmt: skip
FILE_RELEASED = Event(
    "file.released", "INFO", "{inbox}/{file} given back without blame ({ending}): {message}",
    "Its run was cut off by a stop, the daemon's death, or another file's worker dying. It runs again, uncharged.",
)  # fmt: skip
FILE_ERROR = Event(
    "file.error", "ERROR", "{inbox}/{file} goes to errors/ ({reason}) in attempt {attempt}: {message}",
    "The file failed for good. Beside it in errors/ lies NAME.error.json with the whole story.",
    "Mend the cause, then `inboxd retry ID`.",
)  # fmt: skip
FILE_QUARANTINED = Event(
    "file.quarantined", "WARNING", "{inbox}/{file} goes to quarantine/: {reason}",
    "The entry is no regular file, or has more than one name. It was never opened.",
    "Look at it in quarantine/, and ask its uploader.",
)  # fmt: skip
FILE_DUPLICATE = Event(
    "file.duplicate", "INFO", "{inbox}/{file} has the content of {other}: {policy}",
    "A file with the same content was processed before; the inbox's `duplicates` policy decides.",
)  # fmt: skip
FILE_LOST = Event(
    "file.lost", "CRITICAL", "{inbox}/{file} is gone from work/, and inboxd did not move it",
    "Somebody or something else removed a file that inboxd held.",
    "Find out who has access to the work folder. Put the file back where it was and restart inboxd: it goes on under "
    "its id. If it is gone for good, have it uploaded again.",
)  # fmt: skip
WORK_LEFTOVER = Event(
    "work.leftover", "WARNING", "{file} in work/ can't be removed: {reason}",
    "What a failed run left could not be cleared away. No file depends on it.",
    "Look what it is, and remove it by hand while inboxd is stopped.",
)  # fmt: skip
FILE_COLLISION = Event(
    "file.collision", "INFO", "{inbox}/{file}: the name was taken, it is delivered as {destination}",
    "Another file of that name lies there already. Nothing is overwritten: the end of the id tells the two apart.",
)  # fmt: skip
FILE_TAKEN = Event(
    "file.taken", "INFO", "{inbox}/{file} was delivered, and somebody took it from {destination} already",
    "The daemon died after the last rename; whoever collects delivered files was quicker than the recovery.",
)  # fmt: skip
FILE_RETRIED = Event(
    "file.retried", "INFO", "{inbox}/{file} taken back from errors/ by {user}", "An operator lets an error run again."
)
FILE_FORGOTTEN = Event(
    "file.forgotten", "INFO", "{inbox}/{file}, an error whose file is gone, forgotten by {user}",
    "An operator let go of it: its row and its sidecar are removed, and it is no longer counted.",
)  # fmt: skip
FILE_ADOPTED = Event(
    "file.adopted", "WARNING", "{inbox}/{file} lay in work/ without a row; adopted",
    "The ledger does not know it: perhaps it is older than the file, after a restore. It is run like any other.",
    "If the ledger was restored from a backup, expect files of that span to be run a second time.",
)  # fmt: skip
FILE_FOUND = Event(
    "file.found", "WARNING", "{inbox}/{file} had ended, and lies in work/ again; it goes on where it was",
    "It was lost, and somebody has put it back or its disk is there again; or its delivery was undone, by a restore "
    "of its disk or a power cut with `durability: process`. Its id stays. What has an outcome is delivered, not run.",
    "Find out why it was away: a start without its disk calls what was on that disk lost.",
)  # fmt: skip
FILE_LEFT = Event(
    "file.left", "WARNING", "{inbox}/{file} stays in work/, and is not adopted: {reason}",
    "Another inbox had this work folder, and was not at its end with the file.",
    "Give the inbox its old name until `inboxd files` shows the end of the file; rename it then.",
)  # fmt: skip
FILE_PUT_BACK = Event(
    "file.put-back", "INFO", "{inbox}/{file} changed while it was claimed; put back to wait",
    "Its uploader was not finished. It waits in inbound/ until it stands still again.",
    "If it is frequent, lengthen the inbox's `settle: {quiet: …}`, or let the uploader rename when it has finished.",
)  # fmt: skip
FILE_CHANGED = Event(
    "file.changed", "WARNING", "{inbox}/{file} was written to after its run; {destination} is not what was run",
    "Its uploader still had it open. The outcome is that of what the handler has read; the file is no longer that.",
    "Let the uploader rename when it has finished, or lengthen the inbox's `settle: {quiet: …}`. "
    "If it can't be trusted, set `claim: copy`.",
)  # fmt: skip
FILES_PRUNED = Event(
    "files.pruned", "INFO", "{inbox}: files older than {age} removed from {folder}: {count}",
    "The inbox's `retention` says so.",
)  # fmt: skip
HANDLER_OUTPUT = Event(
    "handler.output", "INFO", "{inbox}/{file}: {line}",
    "A line that the handler printed while it was at this file, or at all files of a batch; of a fetcher, one that its "
    "libraries did.",
)  # fmt: skip

# Sources
SOURCE_POLLED = Event(
    "source.polled", "DEBUG", "source {source}: {items} items listed, {new} of them new, in {seconds:.2f} s",
    "The source was asked what it offers.",
)  # fmt: skip
SOURCE_AWAY = Event(
    "source.away", "ERROR", "source {source} of inbox {inbox} is away: {message}; the next try is in {delay:.0f} s",
    "It can't be reached, is overloaded, does not answer in time, or a poll of it ends without a listing. It rests, "
    "and no item is blamed. Said once.",
    "See whether the host can be reached from here; the source goes on by itself.",
)  # fmt: skip
SOURCE_BACK = Event(
    "source.back", "WARNING", "source {source} of inbox {inbox} is back after {seconds:.1f} s",
    "It answers again. A warning, so that it stands beside the trouble it ends.",
)  # fmt: skip
SOURCE_REFUSED = Event(
    "source.refused", "ERROR", "source {source} of inbox {inbox} refuses us: {message}; next try in {delay:.0f} s",
    "It does not let us in, is not who it should be, or is set up wrongly here. Nothing works before that is mended.",
    "Look at its credentials, host key or certificate; then `inboxd reload` or `inboxd poll SOURCE`.",
)  # fmt: skip
SOURCE_LISTING_CUT = Event(
    "source.listing-cut", "WARNING", "source {source} of inbox {inbox}: its listing was cut off after {items} items",
    "It is longer than the source's `max_items`. What lies behind is seen only when what lies before has gone there.",
    "Acknowledge, delete or move items that are fetched, or raise `max_items`.",
)  # fmt: skip
SOURCE_LISTING_LOST = Event(
    "source.listing-lost", "ERROR",
    "source {source} of inbox {inbox}: its listing can't be read here: {message}; the next poll is in {delay:.0f} s",
    "A listing lies in incoming/ until it is taken in. It has gone from there, was cut off, or the disk fails. Nothing "
    "is lost at the source.",
    "See whether the disk of incoming/ is there and sound, and that nothing else writes into that folder.",
)  # fmt: skip
SOURCE_QUOTA = Event(
    "source.quota", "WARNING", "source {source} of inbox {inbox}: its quota is used up ({message}); the rest waits",
    "More was fetched within `quota: {per: …}` than is allowed. Fetching goes on by itself as that span moves on.",
    "Ask the partner whether so much is right; else raise the source's `quota`.",
)  # fmt: skip
SOURCE_BACKLOG = Event(
    "source.backlog", "INFO", "source {source}: {count} files of inbox {inbox} wait; nothing is fetched meanwhile",
    "As many files wait as the source's `backlog` allows. Fetching goes on by itself when there are fewer.",
    "Nothing, unless it lasts: then see why the inbox's files are not processed.",
)  # fmt: skip
ITEM_DISCOVERED = Event(
    "item.discovered", "DEBUG", "{inbox}/{file}: item {item} of {source} is new", "A poll listed it for the first time."
)
ITEM_FETCHED = Event(
    "item.fetched", "INFO", "{inbox}/{file} fetched from {source}: {bytes:,} bytes in {seconds:.1f} s",
    "All of it is here, verified as far as the source allows, and safe. It goes on like any other file.",
)  # fmt: skip
ITEM_WAITING = Event(
    "item.waiting", "WARNING",
    "{inbox}/{file} not fetched from {source} in attempt {attempt}: {message}; again in {delay:.1f} s",
    "A fetch failed, and the source's retry policy grants another. What has come is kept where it can be resumed.",
    "Nothing, unless it repeats: then ask the partner about this item.",
)  # fmt: skip
ITEM_ABANDONED = Event(
    "item.abandoned", "ERROR", "{inbox}/{file} of {source} is given up ({reason}) in attempt {attempt}: {message}",
    "The item failed for good: too often, too large, or gone at the source. It was never accepted, nor acknowledged.",
    "Ask the partner; a new id or version is a new item. `inboxd poll SOURCE --again` fetches this one after all.",
)  # fmt: skip
ITEM_ACKED = Event(
    "item.acked", "DEBUG", "{inbox}/{file} acknowledged to {source}", "The source knows that we have it."
)
ITEM_ACK_WAITING = Event(
    "item.ack-waiting", "WARNING",
    "{inbox}/{file} not acknowledged to {source} in attempt {attempt}: {message}; again in {delay:.1f} s",
    "The file is safe here, and the source does not know yet. It is told again until it has heard.",
    "If it repeats, look at the `ack` or `after` of the source, and at what our user may do there.",
)  # fmt: skip
FETCH_PROGRESS = Event(
    "fetch.progress", "INFO", "{inbox}/{file} from {source}: {summary}",
    "How far a long fetch is: bytes, share, rate, and the time that is left at that rate.",
)  # fmt: skip
ARRIVALS_MISSING = Event(
    "arrivals.missing", "ERROR", "inbox {inbox}: {message}",
    "An `expect` of the configuration, of this inbox or of a source of it, is not met.",
    "Ask who sends them; `arrivals.late` tells when they come after all.",
)  # fmt: skip
ARRIVALS_LATE = Event(
    "arrivals.late", "WARNING", "inbox {inbox}: {message}",
    "What was missing has come. A warning, so that it stands beside the trouble it ends.",
)  # fmt: skip

# Destinations
RESULT_SENT = Event(
    "result.sent", "INFO", "{inbox}/{file} sent to {destination}: {bytes:,} bytes in {seconds:.1f} s",
    "The destination has said that it has this result, which a handler left.",
)  # fmt: skip
RESULT_WAITING = Event(
    "result.waiting", "WARNING",
    "{inbox}/{file} not sent to {destination} in attempt {attempt}: {message}; again in {delay:.1f} s",
    "Sending failed, and the destination's retry policy grants another attempt. The result waits in work/.",
    "Nothing, unless it repeats: then ask the partner about this result.",
)  # fmt: skip
RESULT_ABANDONED = Event(
    "result.abandoned", "ERROR",
    "{inbox}/{file} for {destination} is given up ({reason}) in attempt {attempt}: {message}",
    "The destination refused this result too often, or it is gone from work/. What is left of it stays there.",
    "Mend the cause, then `inboxd send DESTINATION --again`; or `--drop`, which brings it to outbound/ unsent.",
)  # fmt: skip
RESULT_DROPPED = Event(
    "result.dropped", "WARNING", "{inbox}/{file} will not be sent to {destination}: dropped by {user}",
    "An operator says that it is not to be sent. When nothing else is to be sent of its file, it appears in outbound/.",
)  # fmt: skip
DESTINATION_AWAY = Event(
    "destination.away", "ERROR",
    "destination {destination} of inbox {inbox} is away: {message}; the next try is in {delay:.0f} s",
    "It can't be reached, is overloaded, or does not answer in time. It rests, and no result is blamed. Said once.",
    "See whether the host can be reached from here; sending goes on by itself.",
)  # fmt: skip
DESTINATION_BACK = Event(
    "destination.back", "WARNING", "destination {destination} of inbox {inbox} is back after {seconds:.1f} s",
    "It answers again. A warning, so that it stands beside the trouble it ends.",
)  # fmt: skip
DESTINATION_REFUSED = Event(
    "destination.refused", "ERROR",
    "destination {destination} of inbox {inbox} refuses us: {message}; next try in {delay:.0f} s",
    "It does not let us in, is not who it should be, or is set up wrongly here. Nothing works before that is mended.",
    "Look at its address, credentials, host key or certificate; then `inboxd reload` or `inboxd send DESTINATION`.",
)  # fmt: skip
DESTINATION_UNKNOWN = Event(
    "destination.unknown", "WARNING",
    "results that wait for destination {destination}, which the configuration has no longer: {count}",
    "At a start or a reload. The results stay in work/, and are sent to nobody.",
    "Put the destination back and reload; or let go of them: `inboxd send DESTINATION --drop`.",
)  # fmt: skip

# Children
CHILD_STARTED = Event("child.started", "DEBUG", "{child} started (pid {pid})", "A worker process begins.")
CHILD_READY = Event(
    "child.ready", "INFO", "{child} ready (pid {pid}) after {seconds:.2f} s", "It has loaded all handlers."
)
CHILD_DIED = Event(
    "child.died", "ERROR", "{child} (pid {pid}) died: {reason}; it was at {file}",
    "A worker process ended in the middle of a file, or by itself.",
    "The file is retried by policy. `signal 11`: a crash in native code. `signal 9`: by the kernel when memory "
    "runs out, which its log tells (`journalctl -k`), or by somebody.",
)  # fmt: skip
CHILD_KILLED = Event(
    "child.killed", "WARNING", "{child} (pid {pid}) killed: {reason}",
    "A worker took too long, took too much memory, or did not stop when asked.",
    "See whether `workers.timeout` and `workers.max_memory` fit what the handler does.",
)  # fmt: skip
CHILD_RECYCLED = Event(
    "child.recycled", "INFO", "{child} (pid {pid}) recycled: {reason}",
    "A healthy worker makes room for a fresh one, for its age, its memory or a reload.",
)  # fmt: skip
CHILD_ASKED = Event(
    "child.asked", "INFO", "{child} (pid {pid}) asked to end: {reason}",
    "It finishes its file, gives the rest back, and ends; no other takes its place.",
)  # fmt: skip
CHILD_OUTPUT = Event(
    "child.output", "INFO", "{child}: {line}",
    "A line that was printed while no file was in progress, as when handlers are loaded; or how many lines of several "
    "files were left out.",
)  # fmt: skip
CHILD_STOPPED = Event("child.stopped", "DEBUG", "{child} (pid {pid}) stopped", "It ended when asked to.")
CHILD_BACKOFF = Event(
    "child.backoff", "WARNING", "{child} is started again in {delay:.1f} s: {reason}",
    "Workers die one after the other; each next start waits longer.",
    "Look at the `child.died` events before it for the cause.",
)  # fmt: skip
CHILD_STUCK = Event(
    "child.stuck", "CRITICAL", "{child} (pid {pid}) does not die of SIGKILL; its slot is idle until it ends",
    "The process sleeps uninterruptibly in the kernel, usually in a file system or device that does not answer.",
    "Look at the mounts its handler uses. A new daemon can't start before the process is gone.",
)  # fmt: skip
ORPHAN_KILLED = Event(
    "child.orphan", "WARNING", "process {pid} ({command}), left behind by a worker, killed",
    "A handler started a process that outlived its run.",
    "Let the handler wait for what it starts, or run long-lived services elsewhere.",
)  # fmt: skip
HANDLER_BROKEN = Event(
    "handler.broken", "ERROR",
    "inbox {inbox}: the handler can't be run ({message}); no file is blamed; mend that, then `inboxd reload`",
    "The handler's module, function or program can't be loaded or started. That is a fault of the set-up.",
    "Mend it, then `inboxd reload`: fresh workers load it, and the inbox goes on by itself.",
)  # fmt: skip
DATABASE_OPENED = Event(
    "database.opened", "INFO", "database {database} opened and tested in {seconds:.2f} s (pid {pid})",
    "A worker has its own connection, tested with SELECT 1.",
)  # fmt: skip
DATABASE_AWAY = Event(
    "database.away", "ERROR", "database {database} is away (pid {pid}): {message}; no file is blamed",
    "A database of the configuration can't be reached. Files wait, uncharged.",
    "Bring the database back; work resumes by itself.",
)  # fmt: skip
LIBRARY = Event(
    "library", "WARNING", "{logger}: {message}", "A library that inboxd uses logged or warned of something.",
    "Usually nothing; report it if it repeats.",
)  # fmt: skip


def all_events() -> list[Event]:
    """Every event, in the order in which they stand here."""
    return [value for value in globals().values() if isinstance(value, Event)]
