"""What runs in a worker process: the loop, and what stands around the user's code."""
