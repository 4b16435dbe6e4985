"""See inside networks: what their layers hold, and whether two networks see alike.

Every analysis takes any `torch.nn.Module` and images, and returns a result with ``plot`` and ``to_frame``.

- `layer_names`: the layers of a network in the order in which they run, by glob or kind
- `collect`: what layers hold, kept on the CPU; `Activations`
- `stream`: the same batch by batch, for several networks in step
- `Result`: what every result can do
"""

from windvane.inspect.activations import Activations, collect, stream
from windvane.inspect.layers import KINDS, layer_names
from windvane.inspect.result import Result

__all__ = ["KINDS", "Activations", "Result", "collect", "layer_names", "stream"]
