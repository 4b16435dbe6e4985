"""Leaving windvane: a folder with a program of its own, or a plain scikit-learn object."""
