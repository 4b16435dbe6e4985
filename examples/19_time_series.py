"""Sales of shops a week ahead: earlier sales as columns, and validation that keeps a week's distance.

What is known a week before a day is what may predict it: the values of seven days ago and earlier.

WINDVANE_EXAMPLE_SECONDS is the budget of each search, 20 where it is not set.
"""

import os

import numpy as np
import pandas as pd

from windvane import AutoRegressor, Lags, TimeSplit

rng = np.random.default_rng(0)
budget = float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20"))

# Three shops, each with a level that drifts and its own weekends.
days = pd.date_range("2024-01-01", periods=300)
level = 100 + np.cumsum(rng.normal(scale=3, size=(3, 300)), axis=1)
weekend = np.outer([40, -30, 10], days.day_of_week >= 5)
table = pd.DataFrame({"shop": np.repeat(["Bern", "Chur", "Olten"], 300), "day": np.tile(days, 3)})
table["weekday"] = table["day"].dt.day_name()
table["sales"] = (level + weekend + rng.normal(scale=5, size=(3, 300))).ravel()
train, test = table[table["day"] < days[-7]], table[table["day"] >= days[-7]]

for lags in (None, Lags([7, 14], by="shop")):
    model = AutoRegressor(budget, random_state=0, verbose=0)
    model.fit(train.drop(columns="sales"), train["sales"], time="day", split=TimeSplit(gap="7d"), lags=lags)
    error = -model.score(test.drop(columns="sales"), test["sales"])
    print(f"{'with' if lags else 'without'} lags: RMSE of the next week {error:.1f}")

# A week later: its sales are known now, and the week after it can be predicted.
model.update_lags(test.drop(columns="sales"), test["sales"])
next_week = test.drop(columns="sales").assign(day=test["day"] + pd.Timedelta(days=7))
print(next_week.assign(sales=model.predict(next_week).round(1)).head(7).to_string(index=False))
