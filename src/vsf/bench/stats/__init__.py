"""Statistics of scored rows: paired tests, intervals, trade-off curves and matched operating points.

The unit of sampling is the *pair*, a prompt with its negative prompt. Images of one pair, from several seeds or models,
are not independent, so they are averaged first. A score of None is unscored: it is left out and counted, never treated
as 0. Where a report joins runs of several *students*, models that were trained alike from different seeds, intervals
also account for which students there happen to be.
"""
