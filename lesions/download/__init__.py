"""Fetch files and hold them to a record."""
