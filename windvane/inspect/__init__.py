"""See inside networks: what their layers hold, and whether two networks see alike.

Every analysis takes any `torch.nn.Module` and images, and returns a result with ``plot`` and ``to_frame``.

- `layer_names`: the layers of a network in the order in which they run, by glob or kind (`KINDS`)
- `collect_activations`: what layers hold, kept on the CPU (`Activations`)
- `iter_activations`: the same batch by batch, for several networks in step
- `compare`: similarity of every layer of a network with every layer of another (`Comparison`), on images that
  `Sampling` says, by one of `MEASURES`
- `baselines`: the same for untrained networks (`untrained`) and for shuffled images
- `cka`, `compare_features`: of two arrays; `CKA`: streaming over batches
- `CCAMeasure`, `RSAMeasure`, `CKAMeasure`, `ProcrustesMeasure`: measures with settings of one's own
- `attention_distance`: how far the heads look, in pixels (`AttentionDistance`); `attention_maps`, `head_outputs`: the
  weights of every head, fused or not, and what it gives
- `head_similarity`: heads from local to global (`HeadGroups`) beside the layers of another network (`HeadSimilarity`)
- `receptive_fields`: what the central unit of every layer depends on (`ReceptiveFields`)
- `skip_ratios`: what skip connections carry (`SkipRatios`); `without_skip`: a network to train without one, and
  `partition`: what that divides (`Partition`)
- `localization`: tokens of a layer beside patches of the input (`Localization`); `TokenGrid`: where tokens lie
- `probe`: what can be read off each layer (`Probes`), from `Examples`, by `ProbeSettings`; `ridge_path`: the ridge
  classifiers behind it (`RidgePath`)
- `drift`: the same layers in several states of a network (`Drift`)
- `Result`: what every result can do
"""

from windvane.inspect.activations import Activations, collect_activations, iter_activations
from windvane.inspect.analyses.attention import AttentionDistance, attention_distance, attention_maps, head_outputs
from windvane.inspect.analyses.attention_heads import HeadGroups, HeadSimilarity, head_similarity
from windvane.inspect.analyses.localization import Localization, localization
from windvane.inspect.analyses.probes import Examples, Probes, ProbeSettings, probe
from windvane.inspect.analyses.receptive_field import ReceptiveFields, receptive_fields
from windvane.inspect.analyses.ridge import RidgePath, ridge_path
from windvane.inspect.analyses.skip_connections import SkipRatios, skip_ratios
from windvane.inspect.analyses.skip_removal import Partition, partition, without_skip
from windvane.inspect.layers import KINDS, layer_names
from windvane.inspect.result import Result
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
    "Sampling",
    "SkipRatios",
    "TokenGrid",
    "attention_distance",
    "attention_maps",
    "baselines",
    "cka",
    "collect_activations",
    "compare",
    "compare_features",
    "drift",
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
