"""Predict a number, and see which columns matter.

WINDVANE_EXAMPLE_SECONDS is the budget, 20 where it is not set.
"""

import os

from sklearn.datasets import load_diabetes
from sklearn.dummy import DummyRegressor
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import train_test_split

from windvane import AutoRegressor

X, y = load_diabetes(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

budget = float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))
model = AutoRegressor(budget, metric="mae", random_state=0).fit(X_train, y_train)
median = DummyRegressor(strategy="median").fit(X_train, y_train)

print(model.leaderboard().head(10).to_string())
print(f"mean absolute error: {mean_absolute_error(y_test, model.predict(X_test)):.1f}")
print(f"of the median:       {mean_absolute_error(y_test, median.predict(X_test)):.1f}")
print(model.feature_importance(X_test, y_test))
