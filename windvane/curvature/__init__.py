"""Curvature: the Fisher trace, the Fisher Penalty and flatness, for any torch network and any training loop.

After Jastrzebski et al., "Catastrophic Fisher Explosion", arXiv 2012.14193.

- `FisherTracker`, `FisherRecord`: Tr(F) while a network trains, from one extra backward pass
- `FisherPenalty`, `input_penalty`: keep it low
- `ExplosionAlarm`, `Alarm`, `ExplosionWarning`: warn when it rises
- `exact_trace`, `ExactTrace`: of a small network, without drawing labels
- `hessian_trace`, `HessianTrace`, `top_eigenvalue`, `TopEigenvalue`: flatness
- `memorisation`, `Memorisation`, `Fit`: clean against wrong labels
- `plot_trace`, `plot_layers`, `plot_hessian`, `plot_memorisation`: pictures

In a loop::

    tracker = FisherTracker(model)
    penalty = FisherPenalty(model, alpha=0.01)
    for step, (images, labels) in enumerate(batches):
        logits = model(images)
        tracker.update(logits, step)
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        penalty(lambda: model(images))
        optimizer.step()

Other people's loops: `windvane.curvature.integrations`.
"""

from windvane.curvature.alarm import Alarm, ExplosionAlarm, ExplosionWarning
from windvane.curvature.exact import ExactTrace, exact_trace
from windvane.curvature.hessian import HessianTrace, TopEigenvalue, hessian_trace, top_eigenvalue
from windvane.curvature.memorisation import Fit, Memorisation, memorisation
from windvane.curvature.penalty import FisherPenalty, input_penalty
from windvane.curvature.plots import plot_hessian, plot_layers, plot_memorisation, plot_trace
from windvane.curvature.tracker import FisherRecord, FisherTracker

__all__ = [
    "Alarm",
    "ExactTrace",
    "ExplosionAlarm",
    "ExplosionWarning",
    "FisherPenalty",
    "FisherRecord",
    "FisherTracker",
    "Fit",
    "HessianTrace",
    "Memorisation",
    "TopEigenvalue",
    "exact_trace",
    "hessian_trace",
    "input_penalty",
    "memorisation",
    "plot_hessian",
    "plot_layers",
    "plot_memorisation",
    "plot_trace",
    "top_eigenvalue",
]
