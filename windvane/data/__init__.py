"""Data to learn from: files, column types, targets, folds, images."""
