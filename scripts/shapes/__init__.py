"""The shapes world: scenes of coloured shapes, questions about them, and the small LLaVA that is trained on both.

scenes -> questions -> world; `teach` trains a model on it. pointing says which word is about which object. scenes,
questions, pointing and world import no torch, so that the demo and the tests can use them anywhere.
"""
