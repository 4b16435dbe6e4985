"""Predict from another program: `windvane serve` answers JSON over HTTP (pip install 'windvane[serve]').

The search ends after two trials. The server runs on this machine alone.
"""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import Request, urlopen

from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier

X, y = load_iris(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y.map({0: "setosa", 1: "versicolor", 2: "virginica"}))

with tempfile.TemporaryDirectory() as work:
    run = Path(work) / "iris"
    model = AutoClassifier(n_trials=2, policy="holdout", families=["linear"], random_state=0, verbose=0, run_dir=run)
    model.fit(X_train, y_train)
    command = [sys.executable, "-m", "windvane", "serve", str(run)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()  # printed when the server is ready
        rows = X_test.head(3).to_dict("records")
        request = Request(f"{address.rstrip('/')}/predict?proba=true", json.dumps(rows).encode())
        request.add_header("Content-Type", "application/json")
        with urlopen(request) as answer:
            found = json.load(answer)
    finally:
        server.send_signal(signal.SIGINT)  # as Ctrl-C does
        server.wait(timeout=30)

for row, expected in zip(found, model.predict(X_test.head(3)), strict=True):
    probability = row["probabilities"][row["prediction"]]
    print(f"the server says {row['prediction']} ({probability:.2f}), the model {expected}")
