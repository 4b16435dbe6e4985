"""The target of a model: its units, and several targets at once."""
