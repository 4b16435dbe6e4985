"""Files of a run: its directory, history, checkpoints, records and test rows."""
