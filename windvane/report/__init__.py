"""What a run's page shows: the honest number first, then the data, the search, the errors and the way to use it.

``evidence`` collects what a run kept; ``oddities``, ``drift``, ``judgement`` and ``importance`` compute, from arrays to
numbers; ``data_part``, ``search_part`` and ``score_part`` turn them into sections; ``story`` puts them in order.
"""
