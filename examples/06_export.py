"""Export: a folder that predicts without windvane, and a plain scikit-learn object.

WINDVANE_EXAMPLE_SECONDS is the budget of the search, 20 where it is not set.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier

X, y = load_iris(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
budget = float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))
model = AutoClassifier(budget, random_state=0, families=["network", "extra_trees", "linear"], verbose=0)
model.fit(X_train, y_train)

with tempfile.TemporaryDirectory() as work:
    # The folder has all that it needs; its program asks for pandas, numpy and the libraries of the chosen models.
    folder = Path(work) / "iris"
    model.export(folder)
    X_test.to_csv(Path(work) / "table.csv", index=False)
    command = [sys.executable, str(folder / "predictor.py"), str(Path(work) / "table.csv"), "--proba"]
    (Path(work) / "found.csv").write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found = pd.read_csv(Path(work) / "found.csv").to_numpy()
    print(f"exported folder: differs by {np.abs(found - model.predict_proba(X_test)).max():.1e}")

plain = model.to_sklearn()
print(f"scikit-learn:    differs by {np.abs(plain.predict_proba(X_test) - model.predict_proba(X_test)).max():.1e}")
print(f"accuracy {(plain.predict(X_test) == y_test).mean():.3f}")
