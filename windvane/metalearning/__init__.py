"""Learning to choose: what many configurations and policies came to on many tables becomes `search/learned`."""
