"""The sections that only runs on images have: what was read, examples, labels and copies to check, networks."""
