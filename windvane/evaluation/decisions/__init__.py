"""From probabilities to decisions: calibration, thresholds and costs, intervals and sets."""
