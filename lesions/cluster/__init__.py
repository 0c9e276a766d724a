"""Give stages to worker processes, on this machine or on others."""
