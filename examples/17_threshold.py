"""Decide: a threshold for recall, costs of errors, calibrated probabilities.

WINDVANE_EXAMPLE_SECONDS is the budget, 20 where it is not set.
"""

import os

from sklearn.datasets import load_breast_cancer
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
y = y.map({0: "malignant", 1: "benign"})
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

model = AutoClassifier(float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20")), random_state=0, verbose=0)
model.fit(X_train, y_train)


def show() -> None:
    (right, false_alarms), (missed, found) = confusion_matrix(
        y_test, model.predict(X_test), labels=["benign", "malignant"]
    )
    print(f"  {found} found, {missed} missed, {false_alarms} false alarms, {right} rightly left alone")


print(f"the most probable class (threshold {model.threshold_}):")
show()

print(model.tune_threshold(recall=0.99))
show()

print(model.tune_threshold(costs={("malignant", "benign"): 20}))
show()

print(model.calibrate())
show()  # the labels stay
