"""Studies of what settings do to time and error."""
