"""What we are given: files, columns, targets, metrics, folds."""
