"""The search: which configurations to train, how long, and the ensemble of the best."""
