"""inboxd: a drop-folder ingestion daemon.

What a handler needs, and nothing else; see docs/handlers.md.
"""

from inboxd.work.file import File as File
from inboxd.work.file import Reject as Reject
from inboxd.work.file import Retry as Retry

__all__ = ["File", "Reject", "Retry"]
__version__ = "0.1.0"
