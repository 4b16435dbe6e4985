"""What a search evaluates, on which rows and for how long: pure decisions, without processes or files of a run."""
