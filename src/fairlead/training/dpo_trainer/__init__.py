"""`fairlead.DPOTrainer`: TRL's trainer with a faster forward and a checked reference."""
