"""windvane: hands-free machine learning for tables and images.

The public names:

- `AutoClassifier`, `AutoRegressor`, `AutoImageClassifier`: search for the best model in a time budget
- `describe`: look at a table before anything is learned from it
- `TimeSplit`, `Lags`: how rows in order of time are validated; earlier values as columns
- `load`: open a saved model or a run directory
- `Metric`: your own metric
- `Evaluation`: how well a model predicts rows with a known target
- `DecisionTuning`, `Calibration`: a tuned threshold, calibrated probabilities
- `Trial`: one configuration and its result
- `FAMILIES`: the families of models, by name
- `SklearnFamily`: a family made of any scikit-learn estimator
- `WindvaneError`, `DiskError`, `InputError`, `RunError`, `ModelFileError`, `NoModelError`: what can go wrong
- `__version__`

The layout; each imports only from what stands above it::

    runtime/      everything a fitted model needs to predict; exported folders carry a copy
    errors.py     the exceptions, drawn as a tree
    version.py    the version, in one place
    settings.py   frozen run-wide choices, passed whole
    stop_signals.py  Ctrl-C and SIGTERM as a request to stop
    packing.py    a folder as bytes, for copies and for other machines
    pages/        self-contained HTML pages from escaped elements, charts as SVG, texts for a terminal
    torch_utils.py  helpers for torch networks: wrappers, devices
    data/         any table -> typed columns; images; files, targets, folds
    evaluation/   scores, intervals, calibration, curves and importance of predictions
    curvature/    Fisher trace and penalty, flatness, alarm; for any torch network
    vision/       image classification: recipe, augmentation, training, transfer, report
    models/       one family, one file: its search space beside how it trains
    image_reader.py  images -> the table of their features that the models of a run read
    persistence.py  the fitted ensemble of a run; manifests; save and load
    search/       which configuration next, for how long: policy, portfolio, scheduler, workers, history, ensemble
    metalearning/  learning to choose: the losses of many tables, and the portfolio built from them
    export/       a folder that predicts without windvane, or a plain scikit-learn object
    progress.py   the display of a running search in a terminal
    inspect/      see inside networks: activations, CKA, attention, receptive fields, skips, probes
    report/       what a run's page shows
    automl/       AutoClassifier, AutoRegressor, load: the story of one run
    integrations/  MLflow
    serve/        pages on runs and a JSON endpoint, for a browser
    cli/          the shell commands: parse, call, print
    __main__.py   the same by python -m windvane
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from windvane.version import VERSION as __version__

if TYPE_CHECKING:
    from windvane.automl import AutoClassifier, AutoImageClassifier, AutoRegressor, load
    from windvane.data.series.lags import Lags
    from windvane.data.series.time_split import TimeSplit
    from windvane.errors import DiskError, InputError, ModelFileError, NoModelError, RunError, WindvaneError
    from windvane.evaluation.decisions.calibration import Calibration
    from windvane.evaluation.decisions.thresholds import DecisionTuning
    from windvane.evaluation.evaluation import Evaluation
    from windvane.evaluation.metrics import Metric
    from windvane.models import FAMILIES
    from windvane.models.sklearn_family import SklearnFamily
    from windvane.report.description import describe
    from windvane.search.trial import Trial

__all__ = [
    "FAMILIES",
    "AutoClassifier",
    "AutoImageClassifier",
    "AutoRegressor",
    "Calibration",
    "DecisionTuning",
    "DiskError",
    "Evaluation",
    "InputError",
    "Lags",
    "Metric",
    "ModelFileError",
    "NoModelError",
    "RunError",
    "SklearnFamily",
    "TimeSplit",
    "Trial",
    "WindvaneError",
    "__version__",
    "describe",
    "load",
]

# Public name -> its module, imported when the name is first used: workers and the help of the shell do without most.
_MODULES = {
    **dict.fromkeys(("AutoClassifier", "AutoImageClassifier", "AutoRegressor", "load"), "automl"),
    **dict.fromkeys(
        ("DiskError", "InputError", "ModelFileError", "NoModelError", "RunError", "WindvaneError"), "errors"
    ),
    "Calibration": "evaluation.decisions.calibration",
    "DecisionTuning": "evaluation.decisions.thresholds",
    "Evaluation": "evaluation.evaluation",
    "Lags": "data.series.lags",
    "TimeSplit": "data.series.time_split",
    "Metric": "evaluation.metrics",
    "FAMILIES": "models",
    "SklearnFamily": "models.sklearn_family",
    "describe": "report.description",
    "Trial": "search.trial",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'windvane' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"windvane.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
