from __future__ import annotations

import pytest

from scim.model._presets import Architecture, architecture, schedule

SIZES = [10, 700, 6_000, 60_000, 1_000_000, 10_000_000]


def test_networks_grow_with_the_data() -> None:
    widths = [max(architecture(n, 20_000).n_hidden) for n in SIZES]
    assert widths == sorted(widths)
    assert architecture(10_000_000, 28_231).n_hidden == (1024, 1024, 1024)


@pytest.mark.parametrize("n", SIZES)
def test_schedules_are_within_reason(n: int) -> None:
    plan = schedule(n)
    assert 2 <= plan.batch_size <= 1_000
    assert 1 <= plan.patience <= plan.max_epochs <= 200


def test_passes_become_fewer_as_data_grow() -> None:
    epochs = [schedule(n).max_epochs for n in SIZES]
    assert epochs == sorted(epochs, reverse=True)


def test_given_values_replace_the_chosen_ones() -> None:
    layers = architecture(10, 10, n_hidden=[64, 32], n_latent=None, dropout_input=0.0)
    assert layers == Architecture([64, 32], architecture(10, 10).n_latent, 0.0, architecture(10, 10).dropout_hidden)
    assert schedule(10, max_epochs=3).max_epochs == 3


def test_batch_size_given_keeps_the_number_of_steps() -> None:
    assert schedule(6_000, 512).max_epochs > schedule(6_000, 128).max_epochs
