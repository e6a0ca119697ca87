"""ROS 2 nodes: convert, queue, work, publish."""
