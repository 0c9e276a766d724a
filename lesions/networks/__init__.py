"""Build networks, a file a family; build.py says how to add one of your own."""
