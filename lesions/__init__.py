"""Hold what the stages share, in wings (docs/design.md)."""
