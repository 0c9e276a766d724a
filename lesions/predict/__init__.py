"""Ensembles, calibration and official scores: of predictions, and of networks on pictures outside their training."""
