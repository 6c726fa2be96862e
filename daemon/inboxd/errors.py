"""Every error inboxd raises on purpose.

    InboxdError
    ├── ConfigError          the configuration is refused (exit 78)
    ├── AlreadyRunning       another daemon holds the state folder, a work folder, or the ledger (exit 75)
    ├── NotRunning           no daemon answers on the control socket (exit 69)
    ├── UsageError           a request that makes no sense (exit 64)
    ├── OutputError          the answer can't be written (exit 74)
    ├── PreconditionError    the machine is not fit: mounts, owners, modes (exit 78)
    ├── LedgerError
    │   ├── LedgerUnavailable   away, locked or full: degrade and try again
    │   ├── LedgerRefused       wrong schema, damaged, gone: do not start, or end (exit 78)
    │   └── LedgerConflict      a compare-and-set hit no row: somebody else moved the file's state
    ├── IllegalTransition    a lifecycle was asked for an arrow it does not have
    └── DiskError            a system call failed on a path; keeps errno

An error carries what happened, to which file or key, and what to do next.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_USAGE = 64
EXIT_NOT_RUNNING = 69
EXIT_SOFTWARE = 70
EXIT_OUTPUT = 74
EXIT_ALREADY_RUNNING = 75
EXIT_CONFIG = 78


class InboxdError(Exception):
    """Something inboxd knows how to explain."""

    exit_code = EXIT_SOFTWARE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(InboxdError):
    """The configuration is refused; `problems` holds one line per fault, in file order."""

    exit_code = EXIT_CONFIG

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AlreadyRunning(InboxdError):
    """Another daemon, or what it left behind, holds the state folder, an inbox's work/, or the ledger."""

    exit_code = EXIT_ALREADY_RUNNING


class NotRunning(InboxdError):
    """No daemon answers on the control socket."""

    exit_code = EXIT_NOT_RUNNING


class UsageError(InboxdError):
    """A request names something that does not exist, or asks for what makes no sense."""

    exit_code = EXIT_USAGE


class OutputError(InboxdError):
    """Standard output takes no more of the answer."""

    exit_code = EXIT_OUTPUT


class PreconditionError(InboxdError):
    """The folders, mounts or rights are not what the promise needs."""

    exit_code = EXIT_CONFIG


class LedgerError(InboxdError):
    """The ledger did not do what was asked."""


class LedgerUnavailable(LedgerError):
    """The ledger is away, locked or full; nothing was changed, or nobody knows. Try again later."""


class LedgerRefused(LedgerError):
    """The ledger is damaged or gone, or its schema is not ours to use."""

    exit_code = EXIT_CONFIG


class LedgerConflict(LedgerError):
    """A compare-and-set did not hit exactly the rows it named."""


class IllegalTransition(InboxdError):
    """A lifecycle has no such arrow."""


class DiskError(InboxdError):
    """A system call failed; `errno` says how, `path` where."""

    def __init__(self, message: str, *, errno: int, path: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno
        self.path = path

    @classmethod
    def of(cls, what: str, error: OSError) -> DiskError:
        """`what` did not come off, since a system call failed."""
        path = str(error.filename or "")
        reason = error.strerror or str(error)
        return cls(f"{what}: {path + ': ' if path else ''}{reason}", errno=error.errno or 0, path=path)
