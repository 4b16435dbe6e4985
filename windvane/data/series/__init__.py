"""Rows in order of time: how they are validated, and earlier values of a series as columns."""
