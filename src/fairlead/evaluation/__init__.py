"""The comparison of base, SFT and SFT+DPO: answers, metrics, win rates, caveats, drift."""
