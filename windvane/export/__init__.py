"""Leaving windvane: a folder with its own program, or a plain scikit-learn object."""
