"""What a fitted model needs to predict: `predictor.load_predictor`. Exported folders carry a copy of this package."""
