"""Train and test networks with a mask at the end."""
