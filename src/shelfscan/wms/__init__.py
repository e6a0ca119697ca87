"""Rules for what a warehouse system may be told."""
