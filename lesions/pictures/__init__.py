"""Make pictures from pictures: colour constancy, applied masks, sheets."""
