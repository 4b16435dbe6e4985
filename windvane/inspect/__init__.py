"""Look inside networks: what their layers represent, and whether two networks represent the same.

Every analysis takes any `torch.nn.Module` and images, and returns a `Result` with ``plot`` and ``to_frame``.

- Layers and activations: `layer_names` (by glob or one of `KINDS`), `collect_activations` (`Activations`),
  `iter_activations` (batch by batch, several networks at once)
- Two networks: `compare` (`Comparison`; `MEASURES`, `Sampling`), `baselines`, `untrained`, `drift` (`Drift`);
  `compare_features` and `cka` for two arrays, `CKA` for batches; measures with their own settings: `CKAMeasure`,
  `RSAMeasure`, `CCAMeasure`, `ProcrustesMeasure`
- Attention: `attention_maps`, `head_outputs`, `attention_distance` (`AttentionDistance`), `head_similarity`
  (`HeadGroups`, `HeadSimilarity`)
- Receptive fields: `receptive_fields` (`ReceptiveFields`)
- Skip connections: `skip_ratios` (`SkipRatios`), `without_skip`, `partition` (`Partition`)
- Tokens and patches: `localization` (`Localization`), `TokenGrid`
- Maps over images (`SaliencyMaps`): `grad_cam` of convolutional networks, `attention_rollout` of transformers
- Linear probes: `probe` (`Probes`; `Examples`, `ProbeSettings`), `ridge_path` (`RidgePath`)
"""

from windvane.inspect.activations import Activations, collect_activations, iter_activations
from windvane.inspect.analyses.attention import attention_maps, head_outputs
from windvane.inspect.analyses.attention_distance import AttentionDistance, attention_distance
from windvane.inspect.analyses.attention_heads import HeadGroups, HeadSimilarity, head_similarity
from windvane.inspect.analyses.attention_rollout import attention_rollout
from windvane.inspect.analyses.grad_cam import grad_cam
from windvane.inspect.analyses.localization import Localization, localization
from windvane.inspect.analyses.probes import Examples, Probes, ProbeSettings, probe
from windvane.inspect.analyses.receptive_field import ReceptiveFields, receptive_fields
from windvane.inspect.analyses.ridge import RidgePath, ridge_path
from windvane.inspect.analyses.skip_connections import SkipRatios, skip_ratios
from windvane.inspect.analyses.skip_removal import Partition, partition, without_skip
from windvane.inspect.layer_selection import KINDS, layer_names
from windvane.inspect.result import Result
from windvane.inspect.saliency import SaliencyMaps
from windvane.inspect.similarity.cca import CCAMeasure, ProcrustesMeasure
from windvane.inspect.similarity.cka import CKA, cka
from windvane.inspect.similarity.compare import MEASURES, Sampling, baselines, compare, compare_features, untrained
from windvane.inspect.similarity.comparison import Comparison
from windvane.inspect.similarity.drift import Drift, drift
from windvane.inspect.similarity.measures import CKAMeasure, RSAMeasure
from windvane.inspect.tokens import TokenGrid

__all__ = [
    "CKA",
    "KINDS",
    "MEASURES",
    "Activations",
    "AttentionDistance",
    "CCAMeasure",
    "CKAMeasure",
    "Comparison",
    "Drift",
    "Examples",
    "HeadGroups",
    "HeadSimilarity",
    "Localization",
    "Partition",
    "ProbeSettings",
    "Probes",
    "ProcrustesMeasure",
    "RSAMeasure",
    "ReceptiveFields",
    "Result",
    "RidgePath",
    "SaliencyMaps",
    "Sampling",
    "SkipRatios",
    "TokenGrid",
    "attention_distance",
    "attention_maps",
    "attention_rollout",
    "baselines",
    "cka",
    "collect_activations",
    "compare",
    "compare_features",
    "drift",
    "grad_cam",
    "head_outputs",
    "head_similarity",
    "iter_activations",
    "layer_names",
    "localization",
    "partition",
    "probe",
    "receptive_fields",
    "ridge_path",
    "skip_ratios",
    "untrained",
    "without_skip",
]
