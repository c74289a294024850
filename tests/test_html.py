"""Objects in a notebook: what matters, and nothing that is read as HTML."""

from __future__ import annotations

import pytest
from anndata import AnnData

import scim
from scim._html import describe


def test_text_is_escaped() -> None:
    text = describe("<b>Title</b>", {"<i>": "<script>alert(1)</script>", "names": ["a & b", "<img src=x>"]})
    assert "<script" not in text and "<img" not in text and "<b>" not in text and "<i>" not in text
    assert "&lt;script&gt;" in text and "a &amp; b" in text


def test_long_lists_unfold_and_empty_values_are_left_out() -> None:
    text = describe("A", {"names": [f"n{i}" for i in range(20)], "none": None, "empty": [], "zero": 0, "many": 12345})
    assert "and 12 more" in text and "n19" in text
    assert "none" not in text and "empty" not in text
    assert ">0<" in text and "12,345" in text


def test_a_reference_shows_what_it_holds(reference: scim.Reference) -> None:
    text = reference._repr_html_()
    assert "700" in text and "B cell" in text and "first" in text and reference.encoder_id in text
    assert str(reference.path) in text


def test_an_encoder_shows_its_layers(encoder: scim.Encoder) -> None:
    text = encoder._repr_html_()
    assert encoder.id in text and "765" in text and ">16<" in text


@pytest.fixture(scope="module")
def hostile() -> AnnData:
    adata = scim.datasets.pbmc68k()
    labels = adata.obs["bulk_labels"].astype(str)
    adata.obs["mine"] = labels.replace({"CD34+": "<script>alert(1)</script>"})
    return adata


def test_a_model_shows_its_data_and_says_whether_it_is_trained(hostile: AnnData) -> None:
    scim.SCIM.setup_anndata(hostile, labels_key="mine", batch_key="channel")
    model = scim.SCIM(hostile, n_hidden=[8], n_latent=4, ontology="flat")
    text = model._repr_html_()
    assert "not trained" in text and "700" in text and "765" in text and "CD19+ B" in text
    assert "<script" not in text and "&lt;script" in text
    model.train(max_epochs=1, accelerator="cpu")
    assert "trained for 1 epoch" in model._repr_html_() and "trained for 1 epoch" in repr(model)


def test_the_text_of_a_model_is_returned_not_printed(hostile: AnnData, capsys: pytest.CaptureFixture[str]) -> None:
    scim.SCIM.setup_anndata(hostile, labels_key="mine", batch_key="channel")
    text = repr(scim.SCIM(hostile, n_hidden=[8], n_latent=4, ontology="flat"))
    assert text.startswith("SCIM: 765 genes") and text.endswith("not trained")
    assert capsys.readouterr().out == ""
