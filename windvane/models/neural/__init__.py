"""Networks on tables, trained in numpy or by scikit-learn."""
