"""The config described for readers and editors: the page of all keys, and the JSON Schema."""
