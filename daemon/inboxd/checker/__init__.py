"""What must hold after anything at all, checked from outside: the invariants of an installation.

Imports nothing else of inboxd, so that the two can't be wrong in the same way. `inboxd doctor` runs it, and every fault
test; `python -m inboxd.checker CONFIG` does, too.
"""
