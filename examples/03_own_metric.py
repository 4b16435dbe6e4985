"""Optimize what a decision costs: a metric of your own.

A missed malignant tumour is taken to cost ten times a false alarm. The function is an ordinary one of this script; it
needs no separate module and no ``if __name__ == "__main__"``.

WINDVANE_EXAMPLE_SECONDS is the budget, 20 where it is not set.
"""

import os

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier, Metric

MISSED, FALSE_ALARM = 10.0, 1.0


def cost(y_true, y_pred):
    missed = (y_true == "malignant") & (y_pred == "benign")
    alarm = (y_true == "benign") & (y_pred == "malignant")
    return float(np.mean(MISSED * missed + FALSE_ALARM * alarm))


X, y = load_breast_cancer(return_X_y=True, as_frame=True)
y = y.map({0: "malignant", 1: "benign"})
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

model = AutoClassifier(
    float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20")),
    metric=Metric("cost", cost, needs="labels", greater_is_better=False),
    random_state=0,
)
model.fit(X_train, y_train)

predicted = model.predict(X_test)
print(f"cost of a patient: {cost(y_test.to_numpy(), predicted):.3f}")
print(confusion_matrix(y_test, predicted, labels=["benign", "malignant"]))
