"""The page of a run: the unbiased score first, then the data, the search, the errors and how to use the model.

`report_data` collects what a run kept; `windvane.evaluation`, `data_checks` and `dataset_shift` compute; the sections
draw; `build` puts them in order.
"""
