"""Pictures and tables of what runs left behind; sees tables of numbers alone, never a model."""
