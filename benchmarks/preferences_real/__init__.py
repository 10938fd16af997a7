"""DPO on pairs that people judged, with a pretrained model."""
