"""Augmentation of whole batches on the device: crops, RandAugment, Mixup."""
