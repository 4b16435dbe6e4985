"""Why is a row predicted so? Shapley values of the whole ensemble.

WINDVANE_EXAMPLE_SECONDS is the time budget, 12 where it is not set.
"""

import os

from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from windvane import AutoRegressor

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = AutoRegressor(float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "12")), random_state=0).fit(X_train, y_train)

found = model.explain(X_test.head(40), time_budget="2s")
print(found)
print()
print(f"row {X_test.index[0]}: {found.prediction.iloc[0]:.1f}, {found.base.iloc[0]:.1f} on average")
print(found.row(0).head(5).to_string())

# Contributions and base add up to the prediction, however long was sampled.
print(f"{found.base.iloc[0] + found.values.iloc[0].sum():.2f} is {model.predict(X_test.head(1))[0]:.2f}")
