"""The Fisher trace and penalty in existing training loops.

- `training_hooks.FisherHooks`: any loop with a model and an optimizer, such as timm's training script
- `lightning.fisher_callback`: a Lightning callback
- `huggingface.fisher_trainer`: a Trainer of transformers
"""

from __future__ import annotations

from torch import nn

from windvane.curvature.fisher_penalty import FisherPenalty
from windvane.curvature.fisher_trace import FisherTracker
from windvane.errors import InputError
from windvane.torch_utils import find_ddp, unwrap_model

Part = FisherPenalty | FisherTracker


def given_parts(penalty: FisherPenalty | None, tracker: FisherTracker | None) -> dict[str, Part]:
    """Return those that are not None, by the names of their states in checkpoints."""
    parts = (("penalty", penalty), ("tracker", tracker))
    return {name: part for name, part in parts if part is not None}


def follow_wrapper(part: Part, called: nn.Module) -> None:
    """Point a penalty or tracker at the `DistributedDataParallel` that the loop has put around its network.

    The penalty then adds the mean over processes; otherwise each process would add its own, and their networks would
    diverge.
    """
    if find_ddp(called) is None:
        return
    if unwrap_model(part.model) is not unwrap_model(called):
        raise InputError(
            f"{type(part).__name__} was made for another network than the one that several processes train. Allowed: "
            f"the whole {type(unwrap_model(called)).__name__} that the loop was given."
        )
    part.model = called
