"""`fairlead.SFTTrainer`: TRL's trainer with a forward that computes what rows begin with together once."""
