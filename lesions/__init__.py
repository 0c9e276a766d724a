"""What the stages share: one concept a module."""
