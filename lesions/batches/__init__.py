"""Bring images from arrays to augmented batches on the device."""
