"""Who is alive: SWIM with Lifeguard, without I/O. Never trusted for who owns what."""
