"""The training loop, its state, schedule, loaders, metrics and checkpoint."""
