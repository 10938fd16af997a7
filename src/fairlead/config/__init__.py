"""`fairlead.yaml` as frozen types, one file per section."""
