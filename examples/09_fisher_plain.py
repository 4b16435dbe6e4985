"""Watch the Fisher trace and keep it low, in your own training loop: two lines."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from windvane.curvature import ExplosionAlarm, FisherPenalty, FisherTracker, exact_fisher_trace, hessian_trace

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
images, labels = torch.tensor(X / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(y)  # (1797, 1, 8, 8)
test = slice(1300, None)


def run(alpha):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    tracker = FisherTracker(model, every=10)
    penalty = FisherPenalty(model, alpha)
    alarm = ExplosionAlarm(warmup_steps=20)
    for step in range(60):
        rows = torch.randint(1300, (64,))
        logits = model(images[rows])
        record = tracker.update(logits, step)
        if record is not None and (told := alarm.update(record)) is not None:
            print(told.message)
        optimizer.zero_grad()
        cross_entropy(logits, labels[rows]).backward()
        penalty(lambda: model(images[rows]))  # noqa: B023
        optimizer.step()
    model.eval()
    accuracy = (model(images[test]).argmax(dim=1) == labels[test]).float().mean()
    print(f"alpha {alpha}: accuracy {accuracy:.3f}, highest Tr(F) {max(r.trace for r in tracker.records_):.1f}")
    exact = exact_fisher_trace(model, model(images[:8])).trace
    print(f"  at the end Tr(F) {exact:.2f} on 8 images, without drawing labels")
    flatness = hessian_trace(model, lambda: cross_entropy(model(images[:256]), labels[:256]), probes=5)
    print(f"  and Tr(H) {flatness.trace:.2f} ± {flatness.standard_error:.2f} on 256")


# The penalty lowers the trace. Digits are too easy for it to win much; docs/findings/fisher.md says where it does.
for alpha in (0.0, 0.03):
    run(alpha)
