"""Your own family: any scikit-learn estimator, in the search beside windvane's families.

WINDVANE_EXAMPLE_SECONDS is the budget, 20 where it is not set.
"""

import os

from optuna.distributions import FloatDistribution
from sklearn.datasets import load_wine
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB

from windvane import AutoClassifier, SklearnFamily
from windvane.models.base import Param

smoothing = Param(FloatDistribution(1e-9, 1.0, log=True), 1e-9)
bayes = SklearnFamily("bayes", classifier=GaussianNB(), search_space={"var_smoothing": smoothing})

X, y = load_wine(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
budget = float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))
model = AutoClassifier(budget, families=[bayes, RidgeClassifier(), "linear", "lightgbm"], random_state=0, verbose=0)
model.fit(X_train, y_train)
print(model.leaderboard().head(8).to_string())
print(f"log loss on {len(y_test)} rows that the search did not see: {-model.score(X_test, y_test):.3f}")
