"""Training of the network that finds people, from figures of the simulator (`shelfscan.sim.people`)."""
