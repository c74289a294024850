from __future__ import annotations

import pytest
import torch

from scim.model import _presets
from scim.model._presets import architecture, choose_precision, schedule

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


def test_batch_size_given_keeps_the_number_of_steps() -> None:
    assert schedule(6_000, 512).max_epochs > schedule(6_000, 128).max_epochs


@pytest.mark.parametrize("there", [True, False])
def test_half_precision_where_hardware_has_it(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    half, whole = "bf16-mixed", "32-true"
    monkeypatch.setattr(_presets, "has_amx", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision("auto") == choose_precision("cpu") == (half if there else whole)
    assert choose_precision("mps") == whole
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not there)
    assert choose_precision("auto") == choose_precision("gpu") == (whole if there else half)
    assert choose_precision("cpu") == (half if there else whole)
