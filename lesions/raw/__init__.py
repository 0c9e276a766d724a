"""Read the official archives: zips, tables, photographs."""
