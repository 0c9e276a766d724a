"""Train: the one loop, its checkpoints, schedules and freezing."""
