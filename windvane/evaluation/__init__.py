"""The one place that computes scores: metrics, predictions with their target, calibration, curves, importance."""
