"""Held-out scenes with their questions: seed -> items, which evaluation, benchmarks and tests ask a model about."""

from __future__ import annotations

from shapes.questions import ask_all
from shapes.scenes import Scene, make_scene
from teach import sightings

Item = sightings.Item[Scene]


def held_out(seed: int, count: int) -> list[Item]:
    """`count` scenes with one question of every kind that each allows."""
    return sightings.held_out(seed, count, make_scene, lambda rng, scene: ask_all(rng, scene.layout))
