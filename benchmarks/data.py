"""Where the data of the benchmarks are, and how their tables are split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.model_selection import train_test_split

ROOT = Path(__file__).resolve().parents[1]
TABLES = ROOT.parent / "shared" / "data" / "tables"
IMAGES = ROOT.parent / "shared" / "data" / "images"
CLASSIFICATION = (
    *("attrition", "car_evaluation", "cell_segmentation", "churn_modelling", "credit_data", "electricity"),
    *("eucalyptus", "hpc_jobs", "isolet_1560", "kr_vs_kp", "mammography", "pendigits", "telco_churn"),
)
REGRESSION = (
    *("abalone", "ailerons", "cpu_act", "hitters_salary", "insurance_charges"),
    *("kin8nm", "saratoga_houses", "space_ga", "wage", "winequality_white"),
)
# A random draw, eight of each task, among the tables that nothing is learned from and no other comparison uses.
FURTHER = (
    *("noaa_weather", "nonvoters", "birth_weight", "mammographic", "covid_testing", "biomass_hhv", "flight_late"),
    *("fishing_mode", "river_flow_rf1", "taxi_tip", "irish_school", "tecator", "poker_8-9_vs_5", "led7digit"),
    *("michigan_math4", "womens_clothing", "storm_status", "mv", "rotterdam_recur", "marvel_align"),
    *("movie_rating", "breast_cancer_wisconsin", "shuttle", "delta_elevators"),
)
RESERVED = frozenset((*CLASSIFICATION, *REGRESSION, *FURTHER))  # nothing is learned from the tables of a benchmark


def check_not_reserved(names: Iterable[str]) -> None:
    """Exit if something would be learned from a table of a benchmark."""
    if RESERVED.intersection(names):
        raise SystemExit("tables of the benchmarks must not be learned from")


def read_table(name: str) -> tuple[pd.DataFrame, pd.Series, Any]:
    """Read the columns and the target of a table, and its row of the index."""
    row: Any = pd.read_csv(TABLES / "index.csv").set_index("name").loc[name]
    frame = pd.read_parquet(TABLES / row["file"])
    return frame.drop(columns=[row["target"]]), frame[row["target"]], row


def load(name: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    """Read a classification table and split it 75/25, stratified, seed 0; returns as `train_test_split`."""
    X, y, _ = read_table(name)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
    return X_train, X_test, y_train, y_test
