"""Other tools that keep what windvane found: `windvane.integrations.mlflow`."""
