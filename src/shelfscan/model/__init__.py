"""Plain frozen data: what the stack talks about. No ROS, no files, no clock."""
