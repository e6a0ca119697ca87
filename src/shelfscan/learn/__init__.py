"""Learning from a store's own labelled pictures: data sets, training, and what is worth labelling next.

Modules that need torch are imported by the commands that train, after `shelfscan.learn.need.need_torch`.
"""
