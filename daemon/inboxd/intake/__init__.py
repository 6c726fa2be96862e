"""What is there? Only looks, never changes a file."""
