"""Signs are recognised from tracked hands whatever their rate, and their order is judged."""

import math

import numpy as np
import pytest
import torch

from legato.data.puppets import hand_positions, random_puppet
from legato.data.recognition import recognise, warped_distance
from legato.data.vocabulary import VOCABULARY


@pytest.mark.parametrize("word", list(VOCABULARY))
def test_every_sign_is_recognised_in_small_pictures_at_any_rate(word: str) -> None:
    puppet = random_puppet(torch.Generator().manual_seed(len(word)), text=word)
    seconds = torch.linspace(0, puppet.seconds, 24, dtype=torch.float64)
    found = recognise(hand_positions(puppet.render(seconds, 32, 32)), word)
    assert found is not None
    assert found.word == word
    assert found.ordered
    assert found.tracked > 0.8


def test_a_sign_in_the_wrong_order_is_told() -> None:
    puppet = random_puppet(torch.Generator().manual_seed(1), text="house")
    hands = puppet.hands(torch.linspace(0, puppet.seconds, 24, dtype=torch.float64))
    middle = torch.cat([hands[:8], hands[16:], hands[8:16]])
    found = recognise(middle, "house")
    assert found is not None
    assert not found.ordered


def test_nothing_is_made_of_hands_that_are_not_seen() -> None:
    assert recognise(torch.full((20, 2, 2), math.nan, dtype=torch.float64)) is None


def test_warping_forgives_the_pace_and_nothing_else() -> None:
    path = np.stack([np.linspace(0, 1, 20), np.zeros(20)], 1)
    slow = np.repeat(path, 3, 0)
    assert warped_distance(path, slow) == 0
    assert warped_distance(path, path + np.array([0, 0.5])) == pytest.approx(0.5)
    assert warped_distance(path, path[::-1]) > 0.2
