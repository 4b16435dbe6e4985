"""Gradient boosting: LightGBM and CatBoost."""
