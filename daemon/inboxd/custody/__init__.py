"""Who holds a file? The only code that moves files or writes rows."""
