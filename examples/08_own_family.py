"""A family of one's own: naive Bayes, in the search beside windvane's families.

WINDVANE_EXAMPLE_SECONDS is the budget, 20 where it is not set.
"""

import os

import numpy as np
from scipy.special import softmax
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier
from windvane.data.encoders import DENSE, Encoder
from windvane.data.store import read_arrays, write_arrays
from windvane.models.base import Param


class Bayes:
    """Gaussian naive Bayes: what can be chosen, and how a model begins or is opened."""

    name = "bayes"

    def supports(self, task, table):
        return task.is_classification

    def space(self, task):
        from optuna.distributions import FloatDistribution

        return {"smoothing": Param(FloatDistribution(1e-4, 1.0, log=True), 0.01)}

    def steps(self, config, task):
        return (1,)  # it does not grow

    def start(self, config, train, valid, setting, kept=None):
        model = BayesModel(Encoder(DENSE))
        model.features = model.encoder.fit_transform(train.table, train.target, setting.task)  # (n, q)
        model.known = np.arange(setting.task.n_classes) == train.target[:, None]  # (n, k)
        model.smoothing = config.get("smoothing", 0.01)
        return model

    def load(self, folder, setting):
        model = BayesModel(Encoder.load(folder))
        model.arrays = read_arrays(folder / "bayes.npz")
        return model


class BayesModel:
    """One fold's model: grow, predict, save."""

    def __init__(self, encoder):
        self.iterations = self.best_iteration = 0
        self.finished, self.encoder = False, encoder

    def grow(self, iterations, until=np.inf):
        mean = np.stack([self.features[rows].mean(axis=0) for rows in self.known.T])  # (k, q)
        spread = np.stack([self.features[rows].var(axis=0) for rows in self.known.T]) + self.smoothing
        self.arrays = {"mean": mean, "spread": spread, "prior": self.known.mean(axis=0)}
        self.iterations = self.best_iteration = 1
        self.finished = True

    def predict(self, table):
        mean, spread, prior = (self.arrays[name] for name in ("mean", "spread", "prior"))
        distance = (self.encoder.transform(table)[:, None] - mean) ** 2 / spread + np.log(spread)  # (n, k, q)
        return softmax(np.log(prior) - distance.sum(axis=2) / 2, axis=1)

    def save(self, folder):
        self.encoder.save(folder)
        write_arrays(folder / "bayes.npz", self.arrays)


X, y = load_wine(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
budget = float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))
model = AutoClassifier(budget, families=[Bayes(), "linear", "lightgbm"], random_state=0, verbose=0)
model.fit(X_train, y_train)
print(model.leaderboard().head(8).to_string())
print(f"log loss on {len(y_test)} rows that the search did not see: {-model.score(X_test, y_test):.3f}")
