import numpy as np
import pandas as pd
import pytest

from windvane.data.column_types import infer_schema
from windvane.data.series.lags import Lags, describe_step, keep_last, know_rows, learn_lags, target_values
from windvane.data.series.time_split import TimeSplit
from windvane.errors import InputError, MissingColumnsError, ModelFileError
from windvane.runtime.columns.schema import Schema

rng = np.random.default_rng(0)
SHOPS = pd.DataFrame({"shop": ["007", "012", "b"]}).merge(
    pd.DataFrame({"day": pd.date_range("2024-01-01", periods=60)}), how="cross"
)
SHOPS["price"] = rng.normal(size=len(SHOPS)).round(2)
SHOPS["weather"] = rng.choice(["sun", "rain"], size=len(SHOPS))
SHOPS = SHOPS.drop(index=[5, 70, 71]).sample(frac=1, random_state=0).reset_index(drop=True)
SALES = pd.Series(rng.normal(size=len(SHOPS)), name="sales")


AS_USUAL = TimeSplit()


def learn(lags, frame=SHOPS, y=SALES, time="day", split=AS_USUAL):
    return learn_lags(frame, lags, time, target_values(y.to_numpy(), None), "sales", split)


def learned_schema(lags):
    features = learn(lags)
    return keep_last(Schema(infer_schema(features.add(SHOPS)).columns, named=True, lags=features))


def test_every_row_has_the_values_of_that_many_steps_before():
    """By a dictionary of all rows."""
    features = learn(Lags([1, 7], of=["sales", "price", "weather"], by="shop"))
    found = features.add(SHOPS)
    known = {
        (row.shop, row.day): (sales, row.price, row.weather)
        for row, sales in zip(SHOPS.itertuples(), SALES, strict=True)
    }
    n_missing = 0
    for i, row in SHOPS.iterrows():
        for k in (1, 7):
            expected = known.get((row.shop, row.day - pd.Timedelta(days=k)))
            values = tuple(found.loc[i, [f"{name}_lag_{k}" for name in ("sales", "price", "weather")]])
            n_missing += expected is None
            assert pd.isna(list(values)).all() if expected is None else values == expected
    assert n_missing == 3 * (1 + 7) - 1 + 2 + 3  # the first days, and what lies after the rows that are not there


def test_a_later_row_is_the_same_alone_and_in_a_table():
    schema = learned_schema(Lags([1, 3], by="shop"))
    later = pd.DataFrame({"shop": "b", "day": pd.date_range("2024-03-01", periods=5), "price": 0.0, "weather": "sun"})
    lags = schema.lags.add(later)
    assert pd.concat([schema.lags.add(later.iloc[[i]]) for i in range(5)]).equals(lags)
    named = later.assign(shop="7.0", day=later["day"] - pd.Timedelta(days=1))
    assert schema.lags.add(named).equals(schema.lags.add(named.assign(shop="007")).assign(shop="7.0"))
    assert lags["sales_lag_1"].notna().tolist() == [True, False, False, False, False]
    assert lags["sales_lag_3"].notna().tolist() == [True, True, True, False, False]
    first = SALES[(SHOPS["shop"] == "b") & (SHOPS["day"] == "2024-02-29")].item()
    assert lags["sales_lag_1"][0] == first
    assert schema.lags.add(later.assign(shop="unknown"))["sales_lag_1"].isna().all()


def test_known_rows_can_be_added():
    schema = learned_schema(Lags([1, 3], of=["sales", "price"], by="shop"))
    new = pd.DataFrame({"shop": "b", "day": pd.date_range("2024-03-01", periods=2), "price": [5.0, 6.0]})
    more = keep_last(know_rows(schema, new.assign(weather="sun"), np.array([10.0, 20.0]), None))
    assert schema.lags.history.ticks.max() + 2 == more.lags.history.ticks.max()
    row = pd.DataFrame({"shop": ["b"], "day": [pd.Timestamp("2024-03-03")]})
    assert more.lags.add(row)["sales_lag_1"].tolist() == [20.0]
    assert more.lags.add(row)["price_lag_1"].tolist() == [6.0]
    assert len(more.lags.history.ticks) == 3 * 3
    with pytest.raises(InputError, match="X lacks 'price', whose earlier"):
        know_rows(schema, new.drop(columns="price"), np.zeros(2), None)


def test_json_keeps_everything():
    schema = learned_schema(Lags([1, 7], of=["sales", "weather"], by="shop"))
    same = Schema.from_json(schema.to_json())
    later = SHOPS.assign(day=SHOPS["day"] + pd.Timedelta(days=8))
    assert same.lags.add(later).equals(schema.lags.add(later))
    assert {"shop"} < set(schema.text_columns) | {"day"}
    damaged = schema.to_json()
    damaged["lags"]["history"]["codes"][0] = 99
    with pytest.raises(ModelFileError, match="lags is damaged"):
        Schema.from_json(damaged)


@pytest.mark.parametrize(
    ("times", "step"),
    [
        (pd.date_range("2024-01-31", periods=30, freq="ME"), "1 month"),
        (pd.date_range("2020-01-01", periods=30, freq="QS"), "3 months"),
        (pd.date_range("2024-01-01", periods=30, freq="4h"), "4 hours"),
        (pd.date_range("2024-01-01", periods=30, freq="W"), "7 days"),
        (np.arange(30) * 0.1 + 5, "0.1"),
        (np.arange(1990, 2020), "1"),
        (pd.timedelta_range("0s", periods=30, freq="15min"), "15 minutes"),
        (pd.date_range("2024-01-01", periods=30).strftime("%d.%m.%Y"), "1 day"),
    ],
)
def test_steps(times, step):
    frame = pd.DataFrame({"when": times, "x": np.arange(30)})
    features = learn([2], frame, pd.Series(np.arange(30.0)), "when")
    assert describe_step(features.grid) == step
    assert features.add(frame)["sales_lag_2"].tolist()[2:] == list(range(28))


def test_labels_are_lags_as_texts():
    values = target_values(np.array([0, 1, 1]), np.array([False, True]))
    assert values.tolist() == ["False", "True", "True"]


IRREGULAR = SHOPS.assign(day=SHOPS["day"] + pd.to_timedelta(rng.random(len(SHOPS)), unit="D"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Lags([0]), "lags=0"),
        (lambda: Lags([]), r"lags=\[\] is not usable"),
        (lambda: Lags([1], by=3), "by=3 is not usable"),
        (lambda: learn(Lags([1], by="store")), "by='store'.*shop"),
        (lambda: learn(Lags([1], of=["profit"], by="shop")), "of='profit'"),
        (lambda: learn(Lags([1], of=["day"], by="shop")), "of='day' is a column of the kind date"),
        (lambda: learn([1]), "have the series and time of another row"),
        (lambda: learn(Lags([80], by="shop")), "lag 80: 0% of the rows"),
        (lambda: learn(Lags([1], by="shop"), IRREGULAR), "evenly spaced|of the rows have a row"),
        (lambda: learn(Lags([1], by="shop"), time="weather"), "kind category"),
        (lambda: learn(Lags([1], by="shop"), time=SHOPS["day"]), "lags need time=, the name of a column"),
        (lambda: learn(Lags([3], by="shop"), split=TimeSplit(gap="4d")), "lag 3 .* is within gap='4d'"),
        (lambda: learn(Lags([3], by="shop"), split=TimeSplit(gap=3)), "lag 3 .* is within gap=3"),
        (lambda: learn(Lags([3], by="shop"), split=TimeSplit(embargo="9d")), "lags and embargo"),
        (lambda: learn(Lags([1], by="shop"), SHOPS.assign(sales_lag_1=0)), "'sales_lag_1', the name of a lag"),
        (lambda: learn(Lags([1], by="shop"), SHOPS.assign(day=SHOPS["day"].where(SHOPS.index > 0))), "1 missing"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_rows_without_time_or_series():
    features = learn(Lags([1], by="shop"))
    with pytest.raises(MissingColumnsError, match="X lacks 'shop'"):
        features.add(SHOPS.drop(columns="shop"))
