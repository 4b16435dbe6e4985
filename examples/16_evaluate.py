"""Evaluate on rows that the search did not see: scores with intervals, segments, worst rows, baselines.

WINDVANE_EXAMPLE_SECONDS is the budget, 20 where it is not set.
"""

import os

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
y = y.map({0: "malignant", 1: "benign"})
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

model = AutoClassifier(float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20")), random_state=0, verbose=0)
model.fit(X_train, y_train)

found = model.evaluate(X_test, y_test, by="mean radius")
print(found)

best = found.metrics.set_index("metric").loc["roc_auc"]
print(f"\nROC AUC {best.score:.3f}, between {best.low:.3f} and {best.high:.3f} with other rows")

board = model.leaderboard(X_test, y_test)
print("\nbaselines, and the best trial:")
print(board[board["baseline"] | (board.index == 1)][["family", "validation_loss", "test_score"]].to_string())
