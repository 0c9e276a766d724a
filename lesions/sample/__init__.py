"""Draw the embedded sample, in the official layout."""
