"""The names that scim writes: the defaults of the documentation, and no two alike."""

from __future__ import annotations

from scim import _keys


def test_default_names() -> None:
    assert _keys.obsm_embedding() == "X_scim"
    assert _keys.obs_label() == "scim_label"
    assert _keys.obs_term_id() == "scim_term_id"
    assert _keys.obsm_scores() == "scim_scores"


def test_key_added_reaches_every_name_and_none_collide() -> None:
    names = _keys.obs_annotation("mine")
    assert _keys.obs_cluster_label("mine") in names and _keys.obs_set("mine") in names
    assert all(name.startswith("mine_") for name in names)
    assert len(set(names)) == len(names)
