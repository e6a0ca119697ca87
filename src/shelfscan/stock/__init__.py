"""Many looks, one belief."""
