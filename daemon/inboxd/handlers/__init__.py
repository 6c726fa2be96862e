"""Handlers that ship with inboxd."""
