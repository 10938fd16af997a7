"""DPO training beside that of TRL."""
