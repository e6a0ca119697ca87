"""Where to look from, and what to do next."""
