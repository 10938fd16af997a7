"""Reward against KL: DPO beside other methods."""
