"""Teaches a small LLaVA a world of generated scenes: world -> scenes, tokenizer, model -> stages -> a checkpoint.

A world (`teach.world`) says what its scenes show and what is asked about them; nothing here knows what that is.
"""
