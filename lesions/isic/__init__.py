"""What the ISIC challenges define: names, splits, metrics."""
