"""Gradient boosting: LightGBM, CatBoost and XGBoost."""
