"""What a fitted model is, and its verbs: fit, select, explain, audit, forget, relabel, add, save.

``carrot.Carrot`` is their face.
"""
