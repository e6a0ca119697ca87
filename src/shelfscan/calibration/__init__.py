"""Measuring a robot's cameras with a printed board: lenses, pairs, and where they sit on the robot."""
