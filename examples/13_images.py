"""Classify images: arrays, a time budget, an ensemble of networks and of models on their features, and the report.

WINDVANE_EXAMPLE_SECONDS is a third of the budget, which is 60 s where it is not set. WINDVANE_EXAMPLE_REPORT names the
page to write.
"""

import os

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from windvane import AutoImageClassifier

digits = load_digits()
images = (digits.images * 15.9).astype("uint8")  # (1797, 8, 8), from 0 to 254
X_train, X_test, y_train, y_test = train_test_split(images, digits.target, stratify=digits.target, random_state=0)

# Digits look like no photo: networks start from random weights, and the pixels are the features.
seconds = 3 * float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))
model = AutoImageClassifier(seconds, weights=[], random_state=0).fit(X_train, y_train)

print(f"{model.policy_.name}: {model.policy_.reason}")
print(model.leaderboard().head(10).to_string())
print(f"accuracy on {len(y_test)} images that the search did not see: {(model.predict(X_test) == y_test).mean():.1%}")
if page := os.environ.get("WINDVANE_EXAMPLE_REPORT"):
    print(f"report: {model.report(page, X_test, y_test)}")
