"""What a run is made of: settings from a TOML file, the command line or Python, checked once."""
