"""Rows that are not exchangeable: several rows of one patient, and rows in order of time.

A random split would put rows of one patient on both sides, or train on later rows than it validates: the validation
loss would be too optimistic for new patients and for tomorrow.

WINDVANE_EXAMPLE_SECONDS is the budget of each search, 20 where it is not set.
"""

import os

import numpy as np
import pandas as pd

from windvane import AutoClassifier, AutoRegressor

rng = np.random.default_rng(0)
budget = float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))

# 60 patients with 8 visits each: the blood values identify the patient, who is ill at all visits or at none.
patient = np.repeat(np.arange(60), 8)
blood = rng.normal(size=(60, 4))[patient] + 0.1 * rng.normal(size=(480, 4))
ill = (rng.random(60) < 0.3 + 0.4 * (blood[::8, 0] > 0))[patient]
visits = pd.DataFrame(blood, columns=["iron", "sugar", "salt", "fat"])

for groups in (None, patient):
    model = AutoClassifier(budget, random_state=0, verbose=0).fit(visits, ill, groups=groups)
    loss = model.leaderboard()["validation_loss"].min()
    print(f"{'rows' if groups is None else 'patients'} kept apart: validation loss {loss:.3f}")

# Two years of daily sales with a trend: later days validate models of earlier days.
day = pd.date_range("2024-01-01", periods=730)
sales = 100 + 0.1 * np.arange(730) + 20 * day.day_name().isin(["Saturday", "Sunday"]) + rng.normal(scale=5, size=730)
calendar = pd.DataFrame({"weekday": day.day_name(), "month": day.month, "trend": np.arange(730)})

model = AutoRegressor(budget, random_state=0, verbose=0).fit(calendar, sales, time=day)
print(model.leaderboard().head(5).to_string())
