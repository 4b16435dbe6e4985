"""Classify: a table, a time budget, an ensemble.

WINDVANE_EXAMPLE_SECONDS is the budget, 20 where it is not set. WINDVANE_EXAMPLE_REPORT is where to write a page on the
run; none is written where it is not set.
"""

import os

from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
y = y.map({0: "malignant", 1: "benign"})
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

model = AutoClassifier(float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20")), random_state=0)
model.fit(X_train, y_train)

print(f"{model.policy_.name}: {model.policy_.reason}")
print(model.leaderboard().head(10).to_string())

# The losses above chose the models, so they are optimistic; rows that the search did not see give an unbiased score.
malignant = list(model.classes_).index("malignant")
auc = roc_auc_score(y_test == "malignant", model.predict_proba(X_test)[:, malignant])
print(f"ROC AUC on {len(y_test)} rows that the search did not see: {auc:.4f}")

if page := os.environ.get("WINDVANE_EXAMPLE_REPORT"):
    print(f"report: {model.report(page, X_test, y_test)}")
