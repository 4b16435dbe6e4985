"""See inside networks: what their layers hold, and whether two networks see alike.

Every analysis takes any `torch.nn.Module` and images, and returns a result with ``plot`` and ``to_frame``.

- `layer_names`: the layers of a network in the order in which they run, by glob or kind (`KINDS`)
- `collect`: what layers hold, kept on the CPU (`Activations`)
- `stream`: the same batch by batch, for several networks in step
- `compare`: similarity of every layer of a network with every layer of another (`Comparison`), on images that
  `Sampling` says, by one of `MEASURES`
- `baselines`: the same for untrained networks (`untrained`) and for shuffled images
- `cka`, `similarity`: of two tables; `CKA`: streaming over batches
- `CanonicalCorrelation`, `Dissimilarities`, `KernelAlignment`, `Procrustes`: measures with settings of one's own
- `attention_distance`: how far the heads look, in pixels (`AttentionDistance`); `attention_maps`, `head_outputs`: the
  weights of every head, fused or not, and what it gives
- `head_similarity`: heads from local to global (`HeadGroups`) beside the layers of another network (`HeadSimilarity`)
- `receptive_fields`: what the central unit of every layer depends on (`ReceptiveFields`)
- `skip_ratios`: what skip connections carry (`SkipRatios`); `without_skip`: a network to train without one, and
  `partition`: what that divides (`Partition`)
- `localisation`: tokens of a layer beside patches of the input (`Localisation`); `TokenGrid`: where tokens lie
- `probe`: what can be read off each layer (`Probes`), from `Examples`, by `ProbeSettings`; `ridge_path`: the ridge
  classifiers behind it (`RidgePath`)
- `drift`: the same layers in several states of a network (`Drift`)
- `Result`: what every result can do
"""

from windvane.inspect.ablation import Partition, partition, without_skip
from windvane.inspect.activations import Activations, collect, stream
from windvane.inspect.attention import AttentionDistance, attention_distance, attention_maps, head_outputs
from windvane.inspect.cka import CKA, cka
from windvane.inspect.compare import MEASURES, Sampling, baselines, compare, similarity, untrained
from windvane.inspect.comparison import Comparison
from windvane.inspect.drift import Drift, drift
from windvane.inspect.factors import CanonicalCorrelation, Procrustes
from windvane.inspect.heads import HeadGroups, HeadSimilarity, head_similarity
from windvane.inspect.layers import KINDS, layer_names
from windvane.inspect.localisation import Localisation, localisation
from windvane.inspect.measures import Dissimilarities, KernelAlignment
from windvane.inspect.probes import Examples, Probes, ProbeSettings, probe
from windvane.inspect.receptive import ReceptiveFields, receptive_fields
from windvane.inspect.result import Result
from windvane.inspect.ridge import RidgePath, ridge_path
from windvane.inspect.skips import SkipRatios, skip_ratios
from windvane.inspect.tokens import TokenGrid

__all__ = [
    "CKA",
    "KINDS",
    "MEASURES",
    "Activations",
    "AttentionDistance",
    "CanonicalCorrelation",
    "Comparison",
    "Dissimilarities",
    "Drift",
    "Examples",
    "HeadGroups",
    "HeadSimilarity",
    "KernelAlignment",
    "Localisation",
    "Partition",
    "ProbeSettings",
    "Probes",
    "Procrustes",
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
    "collect",
    "compare",
    "drift",
    "head_outputs",
    "head_similarity",
    "layer_names",
    "localisation",
    "partition",
    "probe",
    "receptive_fields",
    "ridge_path",
    "similarity",
    "skip_ratios",
    "stream",
    "untrained",
    "without_skip",
]
