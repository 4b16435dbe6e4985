"""Stop, come back another day, and continue: one directory is a run.

WINDVANE_EXAMPLE_SECONDS is the budget of each search, 20 where it is not set.
"""

import os
import tempfile
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier, load

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
budget = float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))

with tempfile.TemporaryDirectory() as folder:
    run = Path(folder) / "digits"
    AutoClassifier(budget, run_dir=run, random_state=0).fit(X_train, y_train)

    # As in another process: only the directory is needed, also after a crash or a power cut.
    model = load(run)
    before = len(model.trials_)
    model.resume(budget)
    print(f"{before} trials, then {len(model.trials_)}; accuracy {(model.predict(X_test) == y_test).mean():.4f}")

    # The predictor alone, without the search that found it.
    model.save(Path(folder) / "model")
    alone = load(Path(folder) / "model")
    assert (alone.predict(X_test) == model.predict(X_test)).all()
