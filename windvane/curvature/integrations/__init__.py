"""The Fisher trace and penalty in training loops that others wrote.

- `hooks`: any loop with a model and an optimiser, such as timm's training script
- `lightning`: a callback
- `hugging_face`: a Trainer of transformers
"""
