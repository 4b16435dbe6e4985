"""Learning to choose: results of many configurations on many tables become `search/strategy/learned`."""
