"""Means over the batches since the last evaluation, added up on the device without waiting for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from windvane.nn.place import Place


class Tally:
    """Adds up loss, right answers and images.

    Parameters
    ----------
    place
        Where, and with how many processes.
    """

    def __init__(self, place: Place) -> None:
        self._world = place.world
        self._sums = torch.zeros(3, device=place.device)  # loss x images, right, images
        self._seconds = 0.0

    def restart(self, seconds: float) -> None:
        """Begin at zero.

        Parameters
        ----------
        seconds
            Of the run so far.
        """
        self._sums.zero_()
        self._seconds = seconds

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Parameters
        ----------
        loss
            Its mean, a scalar.
        logits, targets
            Shape (b, k); an image is of the class with the largest share.
        """
        with torch.no_grad():
            n = len(logits)
            right = (logits.argmax(dim=1) == targets.argmax(dim=1)).sum()
            self._sums += torch.stack([loss.detach() * n, right, torch.full_like(loss, n)]).to(self._sums.dtype)

    def read(self, seconds: float) -> tuple[float, float, float]:
        """Give images a second over all processes, mean loss and accuracy of this one; waits for the device.

        All are nan before the first batch.

        Parameters
        ----------
        seconds
            Of the run so far.

        Returns
        -------
        images_per_second, loss, accuracy
            Since the last restart.
        """
        loss, right, n = self._sums.tolist()
        if not n:
            return math.nan, math.nan, math.nan
        return self._world * n / max(seconds - self._seconds, 1e-9), loss / n, right / n

    def to_json(self) -> list[float]:
        """Give what `resume` takes."""
        return [*self._sums.tolist(), self._seconds]

    def resume(self, kept: Sequence[float]) -> None:
        """Go on adding to what was kept.

        Parameters
        ----------
        kept
            From `to_json`.
        """
        *sums, self._seconds = kept
        self._sums.copy_(torch.tensor(sums))
