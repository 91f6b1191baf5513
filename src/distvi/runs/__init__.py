"""Run folders: what a run leaves behind, in files that anyone can read."""
