"""Workers and servers on the machines of a Ray cluster; their numbers travel by ZeroMQ."""
