"""Where the data of the benchmarks are, and how their tables are split."""

from __future__ import annotations

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
RESERVED = frozenset((*CLASSIFICATION, *REGRESSION))  # nothing is learned from the tables of a benchmark


def load(name: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    """Read a classification table and split it 75/25, stratified, seed 0; returns as `train_test_split`."""
    row: Any = pd.read_csv(TABLES / "index.csv").set_index("name").loc[name]
    frame = pd.read_parquet(TABLES / row["file"])
    X, y = frame.drop(columns=[row["target"]]), frame[row["target"]]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
    return X_train, X_test, y_train, y_test
