"""The ground of all wings: errors, files, configuration, workers, resuming."""
