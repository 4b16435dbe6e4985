"""Where a loop has wrapped the network itself, for several processes."""

from __future__ import annotations

from torch import nn

from windvane.curvature.penalty import FisherPenalty
from windvane.curvature.tracker import FisherTracker
from windvane.errors import InputError
from windvane.torch_utils import find_ddp, unwrap_model


def follow(part: FisherPenalty | FisherTracker | None, called: nn.Module) -> None:
    """Let a part that was made for a network know the `DistributedDataParallel` that the loop calls in its place.

    The penalty then adds the mean over the processes; else each would add its own, and their networks would part.

    Parameters
    ----------
    part
        What measures or penalises.
    called
        What the loop calls.

    Raises
    ------
    InputError
        Where it was made for another network, such as a part of the one that is wrapped.
    """
    if part is None or find_ddp(called) is None:
        return
    if unwrap_model(part.model) is not unwrap_model(called):
        raise InputError(
            f"{type(part).__name__} was made for another network than the one that several processes train. Allowed: "
            f"the whole {type(unwrap_model(called)).__name__} that the loop was given."
        )
    part.model = called
