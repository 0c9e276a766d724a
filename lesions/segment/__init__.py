"""Train and test networks that predict a mask."""
