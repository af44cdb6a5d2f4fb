"""What one node holds: cells, what changes them, deadlines, what is remembered."""
