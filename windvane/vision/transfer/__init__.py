"""Transfer learning: fine-tuning, linear probes, a given time budget, a choice of checkpoints."""
