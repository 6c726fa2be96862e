"""Runs in a fetcher process: one source, its credentials, and nothing else of ours."""
