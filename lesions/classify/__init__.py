"""Train and test one classifier on one split."""
