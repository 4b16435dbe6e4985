"""How similar layers are: measures, networks compared layer by layer, drift between states of one network."""
