"""Train networks: the loop, its checkpoints, schedules and freezing."""
