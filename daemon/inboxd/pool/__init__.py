"""Who does it: the only code of the daemon that starts, signals or reaps processes."""
