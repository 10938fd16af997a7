"""SFT and DPO on TRL and PEFT."""
