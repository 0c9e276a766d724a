"""Make pictures from pictures: colour constancy, masks put to use, sheets."""
