"""What `fairlead init` writes: a short or a full `fairlead.yaml`, or a small project that runs as it is."""
