"""What one node holds: cells, slots, deadlines, memory."""
