"""Where slots live: key -> slot, members -> owners of every slot, the topology's epochs, what a majority is."""
