"""Where trials are trained: worker processes of this machine, or tasks of a Dask cluster."""
