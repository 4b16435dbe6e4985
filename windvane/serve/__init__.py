"""The live view: pages on runs and a JSON endpoint that predicts, for a browser on this machine (`windvane serve`)."""
