"""SFT and DPO on TRL and PEFT. Knows nothing of evaluation."""
