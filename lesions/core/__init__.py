"""Serve all wings: errors, files, configuration, workers, resuming."""
