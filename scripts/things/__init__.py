"""The things world: scenes of everyday things over photographs, questions in plain English, and the small LLaVA that is
trained on both.

kinds -> pictograms, grounds -> scenes -> questions -> world; `teach` trains a model on it. Nothing here imports torch
but train and evaluate, so that the demo and the tests can use scenes and questions anywhere.
"""
