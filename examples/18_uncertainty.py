"""How sure is a prediction: intervals for numbers, sets of classes, and whether they hold what they promise.

WINDVANE_EXAMPLE_SECONDS is the budget of each of the two searches, 20 where it is not set.
"""

import os

import numpy as np
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier, AutoRegressor

budget = float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))

X, y = load_diabetes(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
regressor = AutoRegressor(budget, random_state=0, families=["linear", "lightgbm"], verbose=0).fit(X_train, y_train)
print("progression of diabetes")
for coverage in (0.5, 0.8, 0.9):
    lower, upper = regressor.predict_interval(X_test, coverage).T
    inside = np.mean((lower <= y_test) & (y_test <= upper))
    print(f"  asked {coverage:.0%}: {inside:.0%} inside, mean width {np.mean(upper - lower):.0f}")

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X[::3], y[::3], stratify=y[::3], random_state=0)
classifier = AutoClassifier(budget, random_state=0, families=["linear", "extra_trees"], verbose=0)
classifier.fit(X_train, y_train)
sets = classifier.predict_set(X_test, coverage=0.98)
sizes = sets.sum(axis=1)
print("digits")
print(f"  asked 98%: {sets[np.arange(len(y_test)), y_test].mean():.0%} inside, {sizes.mean():.2f} classes a set")
unsure = sizes.argmax()
print(f"  the least certain one may be {classifier.classes_[sets[unsure]].tolist()}; it is {y_test[unsure]}")
