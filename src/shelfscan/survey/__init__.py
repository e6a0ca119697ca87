"""What stands where, proposed from a first drive: for a store whose planogram is missing or wrong."""
