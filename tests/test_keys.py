"""The names that scim writes: the defaults of the documentation, and no two alike."""

from __future__ import annotations

from scim import _keys


def test_default_names() -> None:
    assert _keys.obsm_embedding() == "X_scim"
    assert _keys.obs_label() == "scim_label"
    assert _keys.obs_term_id() == "scim_term_id"
    assert _keys.obsm_scores() == "scim_scores"


def test_key_added_reaches_every_name_and_none_collide() -> None:
    makers = [_keys.obs_label, _keys.obs_term_id, _keys.obs_confidence, _keys.obs_novelty, _keys.obs_set]
    names = [make("mine") for make in makers]
    assert all(name.startswith("mine_") for name in names)
    assert len(set(names)) == len(names)
