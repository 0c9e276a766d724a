"""Define names, splits and metrics as the ISIC challenges do."""
