"""Search on a Dask cluster; here one of two processes on this machine, elsewhere the address of a scheduler.

WINDVANE_EXAMPLE_SECONDS is the budget, 20 where it is not set. It needs ``pip install 'windvane[cluster]'``.
"""

import os

from distributed import Client, LocalCluster
from sklearn.datasets import load_breast_cancer

from windvane import AutoClassifier


def main() -> None:
    """Train on all threads of the cluster."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        model = AutoClassifier(float(os.environ.get("WINDVANE_EXAMPLE_SECONDS", "20")), random_state=0)
        model.fit(X, y, dask_client=client)
        print(model.leaderboard().head(10).to_string())


if __name__ == "__main__":  # LocalCluster starts its processes by importing this file
    main()
