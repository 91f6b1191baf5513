"""What a run needs of the operating system: files, signals, memory, compiled programs."""
