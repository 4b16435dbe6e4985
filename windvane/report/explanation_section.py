"""The section on why rows are predicted as they are: contributions of columns, row by row."""

from __future__ import annotations

import numpy as np
import pandas as pd

from windvane.evaluation.columns.explanation import Explanation, ShapleySampling, explain_table
from windvane.evaluation.columns.importance import encoded_columns
from windvane.pages.html_builder import Html, Section, figure, paragraph, side_by_side
from windvane.pages.svg_charts import Axis, Series, plot
from windvane.persistence import Predictor
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Table

MAX_ROWS, MIN_ROWS, MAX_SECONDS = 120, 10, 5.0
MAX_CELLS = 1_000_000  # of the rows that are explained
N_COLUMNS, N_CURVES = 8, 4  # with a line of dots, with a separate picture
HALF_WIDTH = 0.38  # of a line of dots
LOW, HIGH, OTHER = 0, 1, 4  # colors


def explain_sample(predictor: Predictor, table: Table, background: Table, seed: int) -> Explanation:
    """Explain some rows of a table, within a few seconds."""
    n_rows = min(MAX_ROWS, max(MIN_ROWS, MAX_CELLS // max(1, table.n_columns)))
    rows = np.sort(np.random.default_rng(seed).permutation(table.n_rows)[:n_rows])
    some = table.take(rows)
    return explain_table(
        predictor,
        some,
        _values_of(some, predictor.schema),
        background,
        positive=predictor.metric.positive,
        sampling=ShapleySampling(max_seconds=MAX_SECONDS, seed=seed),
    )


def explanation_section(found: Explanation, rows: str) -> Section:
    """Dots of the contributions of the strongest columns, and their contribution over their values."""
    ranked = list(found.importance().index)
    text = f"How much each column moves the {found.output} row away from the mean (Shapley values of "
    text += f"{len(found.values):,} {rows}): the contributions of a row add up to its prediction."
    names = ranked[:N_COLUMNS]
    dots = [series for place, name in enumerate(names) for series in _line_of_dots(found, name, len(names) - place)]
    across = Axis.around("contribution", found.values[names])
    up = Axis("", 0.4, len(names) + 0.6, [(len(names) - i, name) for i, name in enumerate(names)])
    keys = [Series.key("low", LOW), Series.key("high", HIGH)]
    picture = plot(dots, across, up, "Contributions of the columns", height=60 + 26 * len(names))
    swarm = figure("Contributions of the columns, by their values", picture, legend=keys)
    numbers = [name for name in ranked if pd.api.types.is_numeric_dtype(found.data[name])][:N_CURVES]
    return Section("Why", [paragraph(text), side_by_side(swarm, *(_curve(found, name) for name in numbers))])


def _line_of_dots(found: Explanation, name: str, place: int) -> list[Series]:
    """Draw one column: dots at their contributions, apart where there are many; colors are low and high values."""
    contribution = found.values[name].to_numpy()
    value = found.data[name]
    up = place + HALF_WIDTH * _spread(contribution)
    if not pd.api.types.is_numeric_dtype(value):
        return [Series(contribution, up, "points", OTHER)]
    high = (value > value.median()).to_numpy()
    return [Series(contribution[part], up[part], "points", color) for part, color in ((~high, LOW), (high, HIGH))]


def _spread(values: Floats) -> Floats:
    """Return offsets between -1 and 1 that keep equal values apart."""
    bins = np.round((values - values.min()) / max(float(np.ptp(values)), 1e-12) * 40).astype(int)
    rank = pd.Series(bins).groupby(bins).cumcount().to_numpy()
    most = max(1, int(rank.max()))
    return np.where(rank % 2 == 0, -1.0, 1.0) * ((rank + 1) // 2) / ((most + 1) // 2)


def _curve(found: Explanation, name: str) -> Html:
    x, y = found.data[name].to_numpy(float), found.values[name].to_numpy()
    axes = Axis.around(name, x), Axis.around("contribution", y)
    return figure(name, plot([Series(x, y, "points")], *axes, f"Contribution of {name} over its values"))


def _values_of(table: Table, schema: Schema) -> pd.DataFrame:
    """Return the values of a typed table: categories as texts, dates as days."""
    categories = [column for column in schema.columns if column.kind == "category"]
    vocabularies = {column.name: [*column.vocabulary, "other"] for column in categories}
    found: dict[str, object] = {}
    for name, column in encoded_columns(schema).items():
        if column.texts:
            found[name] = table.texts[column.texts[0]]
        elif name in vocabularies:
            codes = table.matrix[:, column.matrix[0]]
            found[name] = [None if np.isnan(code) else vocabularies[name][int(code)] for code in codes]
        elif column.matrix:
            found[name] = table.matrix[:, column.matrix[0]]
    return pd.DataFrame({name: found[name] for name in schema.feature_names if name in found})
