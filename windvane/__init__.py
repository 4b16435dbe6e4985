"""windvane: hands-free machine learning for tables.

The public names:

- `AutoClassifier`, `AutoRegressor`: estimators that search for the best model within a time budget
- `load`: open a saved model or a run directory
- `Metric`: a metric of one's own
- `Trial`: what came of one configuration
- `FAMILIES`: the families of models, by name
- `WindvaneError`, `InputError`, `RunError`, `ModelFileError`, `NoModelError`: what can go wrong
- `__version__`
"""

from windvane.automl import AutoClassifier, AutoRegressor, load
from windvane.data.metrics import Metric
from windvane.errors import InputError, ModelFileError, NoModelError, RunError, WindvaneError
from windvane.models import FAMILIES
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
    "Trial",
    "WindvaneError",
    "__version__",
    "load",
]
