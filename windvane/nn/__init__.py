"""One network, trained once: networks, recipe, AugReg levels, data, optimiser, training, transfer."""
