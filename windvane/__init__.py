"""windvane: hands-free machine learning for tables and images.

The public names:

- `AutoClassifier`, `AutoRegressor`: estimators that search for the best model within a time budget
- `load`: open a saved model or a run directory
- `Metric`: a metric of one's own
- `Trial`: what came of one configuration
- `FAMILIES`: the families of models, by name
- `SklearnFamily`: a family made of any scikit-learn estimator
- `WindvaneError`, `InputError`, `RunError`, `ModelFileError`, `NoModelError`: what can go wrong
- `__version__`

The layout; each imports only from what stands above it::

    errors.py     the exceptions, drawn as a tree
    version.py    the version, in one place
    settings.py   frozen run-wide choices, passed whole
    draw.py       small charts as SVG: pure functions
    page.py       one small builder of self-contained HTML pages
    torch_utils.py  helpers for torch networks: wrappers, devices
    data/         any table -> typed columns; images; files, targets, folds, metrics
    curvature/    Fisher trace and penalty, flatness, alarm; for any torch network
    vision/       image classification: recipe, augmentation, training, transfer, report
    models/       one family, one file: its search space beside how it grows
    search/       which configuration next, for how long: policy, portfolio, optimiser, workers, history, ensemble
    predictor.py  the fitted ensemble: predict
    persist.py    save and load
    export/       a folder that predicts without windvane, or a plain scikit-learn object
    fitted.py     what a fitted estimator tells of its run
    refit.py      the ensemble trained anew on all rows
    progress.py   what a search says while it runs
    runs.py       one run from its directory to its outcome
    metalearning/  learning to choose: the matrix of losses, the portfolio and the selector built from it
    inspect/      see inside networks: activations, CKA, attention, receptive fields, skips, probes
    report/       what a run's page shows
    results.py    what a fitted estimator tells, and how its model is taken away
    estimator.py  what both estimators share: the story of one run
    automl.py     AutoClassifier, AutoRegressor, load
    cli/          the shell commands: parse, call, print
    __main__.py   the same by python -m windvane
"""

from windvane.automl import AutoClassifier, AutoRegressor, load
from windvane.data.metrics import Metric
from windvane.errors import InputError, ModelFileError, NoModelError, RunError, WindvaneError
from windvane.models import FAMILIES
from windvane.models.sklearn_family import SklearnFamily
from windvane.search.trial import Trial
from windvane.version import VERSION as __version__

__all__ = [
    "FAMILIES",
    "AutoClassifier",
    "AutoRegressor",
    "InputError",
    "Metric",
    "ModelFileError",
    "NoModelError",
    "RunError",
    "SklearnFamily",
    "Trial",
    "WindvaneError",
    "__version__",
    "load",
]
