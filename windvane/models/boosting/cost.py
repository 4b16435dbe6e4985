"""When boosting is slow by the shape of the task alone, and what is done about it."""

from windvane.data.task import Task

# Columns above which boosters sort numbers into a quarter of the bins: measured on 617 columns with 26 classes, a
# round then takes half as long with LightGBM and a third with CatBoost.
WIDE = 300
# Columns times classes above which one round takes about a second.
_SLOW = 3000


def is_slow(task: Task) -> bool:
    """Whether a first state should be kept after fewer rounds than usual."""
    return task.n_columns * max(1, task.n_classes) > _SLOW
