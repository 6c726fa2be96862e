"""`inboxd tune`: which settings suit this machine, this handler and these files. It tries them, and tells."""
