"""What runs a node: sockets, timers, life time, and what of the machine this process asks for."""
