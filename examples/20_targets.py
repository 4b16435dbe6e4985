"""One run for several targets, labels as lists, and a quantile in place of the mean.

WINDVANE_EXAMPLE_SECONDS is the budget of each of the first two searches, 20 where it is not set; the third one ends
after two trials.
"""

import os

import numpy as np
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier, AutoRegressor

budget = float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))
settings = {"random_state": 0, "families": ["linear", "lightgbm"], "verbose": 0}

X, y = load_linnerud(return_X_y=True, as_frame=True)  # exercises of 20 men; weight, waist and pulse
regressor = AutoRegressor(budget, **settings).fit(X, y)
print(regressor.predict(X[:3]).round(1))

X, y = load_diabetes(return_X_y=True, as_frame=True)
notes = {"ill": y > 150, "heavy": X["bmi"] > 0.02}
labels = [[name for name, is_there in notes.items() if is_there[row]] for row in X.index]
columns = X.drop(columns="bmi")
X_train, X_test, train, test = train_test_split(columns, labels, random_state=0)
classifier = AutoClassifier(budget, **settings).fit(X_train, train)
print(classifier.evaluate(X_test, test, n_worst=0))
print(f"the first row has the labels {test[0]}; predicted are {classifier.predict(X_test[:1])[0]}")

X_train, X_test, train, test = train_test_split(X, y, random_state=0)
high = AutoRegressor(n_trials=2, metric="pinball_0.9", **settings).fit(X_train, train)
print(f"asked 90%: {np.mean(test <= high.predict(X_test)):.0%} are below the predicted quantile")
