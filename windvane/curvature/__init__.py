"""Curvature: Fisher trace, Fisher Penalty and flatness, for any torch network and any training loop.

After Jastrzebski et al., "Catastrophic Fisher Explosion", arXiv 2012.14193::

    tracker = FisherTracker(model)
    penalty = FisherPenalty(model, alpha=0.01)
    for step, (images, labels) in enumerate(loader):
        logits = model(images)
        tracker.update(logits, step)
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        penalty(lambda: model(images))
        optimizer.step()

For existing training loops: `windvane.curvature.integrations`.
"""

from windvane.curvature.explosion_alarm import Alarm, ExplosionAlarm, ExplosionWarning
from windvane.curvature.fisher_penalty import FisherPenalty, input_gradient_penalty
from windvane.curvature.fisher_trace import ExactTrace, FisherRecord, FisherTracker, exact_fisher_trace
from windvane.curvature.hessian import HessianTrace, TopEigenvalue, hessian_trace, top_eigenvalue
from windvane.curvature.memorization import Fit, Memorization, memorization
from windvane.curvature.plots import plot_hessian, plot_layers, plot_memorization, plot_trace

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
    "Memorization",
    "TopEigenvalue",
    "exact_fisher_trace",
    "hessian_trace",
    "input_gradient_penalty",
    "memorization",
    "plot_hessian",
    "plot_layers",
    "plot_memorization",
    "plot_trace",
    "top_eigenvalue",
]
