"""The shapes world: generated scenes, questions about them, and the small LLaVA that is trained on both.

scenes -> questions -> tokenizer, model -> dataset -> packing -> training; pointing judges where attention lands.
scenes, questions and pointing import no torch, so that the demo and the tests can use them anywhere.
"""
