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
- `Result`: what every result can do
"""

from windvane.inspect.activations import Activations, collect, stream
from windvane.inspect.cka import CKA, cka
from windvane.inspect.compare import MEASURES, Sampling, baselines, compare, similarity, untrained
from windvane.inspect.comparison import Comparison
from windvane.inspect.factors import CanonicalCorrelation, Procrustes
from windvane.inspect.layers import KINDS, layer_names
from windvane.inspect.measures import Dissimilarities, KernelAlignment
from windvane.inspect.result import Result

__all__ = [
    "CKA",
    "KINDS",
    "MEASURES",
    "Activations",
    "CanonicalCorrelation",
    "Comparison",
    "Dissimilarities",
    "KernelAlignment",
    "Procrustes",
    "Result",
    "Sampling",
    "baselines",
    "cka",
    "collect",
    "compare",
    "layer_names",
    "similarity",
    "stream",
    "untrained",
]
