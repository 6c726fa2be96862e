"""The daemon's own pipeline in one thread, on a file system, a pool and a clock that are simulated. See run.py."""
