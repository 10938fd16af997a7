"""What continuous batching is made of: the cache of the rows under way, the prefill, and the forward of both."""
