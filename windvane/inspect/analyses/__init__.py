"""What one network does: attention, receptive fields, skip connections, localization, linear probes."""
