"""Set our numbers beside the published ones: tables, tests, pictures, pages."""
