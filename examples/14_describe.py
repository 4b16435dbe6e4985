"""Look at a table before anything is learned from it, and say how a column is to be read."""

import pandas as pd
from sklearn.datasets import load_diabetes

from windvane import describe

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
later = X.assign(bmi=X["bmi"] + 5).tail(100)  # as if people had become heavier

print(describe(X, y, later))

print()
found = describe(X, y, column_types={"sex": "category"})
print(found.columns.set_index("column").loc[["age", "sex"]])

# Which columns separate the two tables, and how much:
shift = describe(X, None, later).shift
print(pd.DataFrame([(one.name, one.distance) for one in shift.columns], columns=["column", "distance"]).round(2))
