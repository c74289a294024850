"""Texts of the page that annotation.py writes."""

from __future__ import annotations

INTRO = """# Labels of unseen studies: scim and other methods

Each real study is held out in turn. Every method trains on the same cells of the other studies and labels the held-out
cells. scim is trained with its defaults. The other methods are fitted again to the genes that the held-out study
measured. "Logistic regression, balanced" is the best of three settings on the four blood studies. Defaults of scim's
training were chosen with the blood studies in view, too. scVI and scANVI use 2,000 genes and 1,000 steps of 256 cells,
with 300 more steps for scANVI and 300 for the mapping. For them, counts of the log1p study are restored from its
smallest values. SCimilarity uses 5,000 genes, layers of 256-256 -> 64, and 400 steps of 500 cells with its own loss and
weights. Larger settings would not finish in minutes on two cores.

All scores are of the label that the default call of each method writes. For scim, this is `scim_term_id`, which may be
a broader term or none. For other methods, it is the most probable label.

- "same term": share of cells with exactly their own label.
- "wrong": share of cells with a term that is neither their own label nor an ancestor of it.
- "unassigned": share of cells without a term.
- "broader": share of the right labels that are an ancestor of the cell's own label. "levels broader": how many terms
  more the own label has above it, on average over these.
- Macro-F1 and balanced accuracy count a broader label as an error. Hierarchical F counts shared ancestors.
- "error of confidence": calibration error of the confidence that the label is right, over the cells with a term.

scim has two constants that labels depend on: `min_probability` is 0.5, and temperatures are multiplied by 1.25, for
cells of a new study. They were chosen with nested leave-one-study-out from 0.5, 0.6, 0.7, 0.8 and from 1, 1.25, 1.5, 2:
for each study of the tables, the value with the best mean on all other studies. The choice is 0.5 for each of the 23
studies, by hierarchical F, by macro-F1 and by the same term. By the error of confidence, it is 1.25 for 22 studies, and
1.5 for one. This choice was made before the similarity of expression joined the embedding. The weight of the similarity
was chosen on the references of the [human body](../human.md), where it is larger, because these have more studies.

Scores are means over seeds: one for scim, three for the others. The spread is the largest minus the smallest mean of a
seed. Logistic regression uses no random numbers, so it has one run and no spread. Each method ran in its own process.
Seconds are processor time. Peak memory includes the cells.

[This table]({name}.csv) has the scores of each run. A later run can continue from it (`--rows`). Command:

```bash
python tests/benchmarks/annotation.py --suite {suites} \\
    --results FOLDER --peer-python PYTHON --out docs/benchmarks/{name}.md
```
"""
TEXTS = {
    "blood": """## Blood

Four studies: 10x PBMC 3k; Zheng 2017, sorted; 10x PBMC of three chemistries, with 1,460 genes and log1p values only;
lung lavage. Labels are coarse. Scores are means over the four studies.

The 129 "CD14 monocytes" of Zheng 2017 were sorted by the protein CD14. They express FCER1A, CD1C and CLEC10A, and a
third of the S100A8 of monocytes in other studies. A method that calls them dendritic cells, as scim does, loses a fifth
of macro-F1 there.""",
    "cells": """## Held-out cells of the training studies

The same four studies. Methods train on four fifths of the cells of each study and are tested on the other fifth. The
prediction sets show what scim promises for cells of the reference's own studies.""",
    "distant": """## Studies far from the training cells

Methods train on all four blood studies, plus macrophages and epithelial cells of the lavage. They are tested on PBMC by
inDrops with about 100 counts a cell and 2,000 genes (ding), sorted dendritic cells by Smart-seq2 with 859 genes
(villani), a pancreatic tumour by inDrop (moncada), breast with 20 cells of each type (breast), and a head and neck
tumour by Smart-seq2 (puram; its published log2 values were converted back). Only cells with a trained label are tested.
The table shows macro-F1.""",
    "later": """## Later studies

Methods train on the same cells as for the distant studies. Nothing in training was chosen on these studies. They are
10x PBMC by v2 chemistry (pbmc4k) and with antibodies (pbmc10k; labels are gates of antibodies, not of RNA), PBMC of 40
donors with 1,000 genes (onek1k), T cells of a tumour (gates of antibodies), skin with lymphoma (gates of marker genes),
and T cells of melanomas by Smart-seq2. Only cells with a trained label are tested. The table shows macro-F1.""",
    "chemistry": """## Chemistries

10x PBMC by 3' v1, 3' v2 and 5' chemistry, with 1,460 genes and the 15 fine labels of the authors. Methods train on two
chemistries and are tested on the third. The table shows macro-F1.""",
    "platform": """## Platforms

Five cell lines by CEL-seq2 (four batches), and three of them by Drop-seq. Methods train on one platform and are tested
on the other. Columns name the tested platform. The labels are not in the ontology, and SCimilarity does not accept such
labels. The table shows macro-F1.""",
    "pancreas": """## Islets

Pancreas by inDrop (Baron, 175 cells), Smart-seq2 (Segerstolpe) and SMARTer (Lawlor, Xin, and Wang, which is never used
for training). Their panels have 12,474, 1,403, 1,403, 980 and 219 genes. Baron's cells in the panel of three studies
are left out. The table shows macro-F1. Cells and genes are few: compare the studies, and ignore differences of a point
or two.""",
    "integration": """## Integration of unseen studies

Two of the blood studies are held out together, in all six combinations. Each method trains on the other two studies and
embeds the held-out pair. scib-metrics scores how well cells of the two studies mix and how well labels stay apart, on
labels that both studies have. No method has seen the labels of the pair. PCA, SCimilarity and scim have not seen its
cells either. Harmony was fitted to these cells, and so were scVI and scANVI, by surgery. Total is 0.4 batch + 0.6
bio.""",
    "robustness": """## Robustness

Macro-F1 on the blood studies. The change is in brackets. Conditions:

- A share of the training cells gets random labels.
- Held-out cells keep only their most expressed genes, or are thinned to 500 counts.
- One label keeps only 20 training cells. The score is the mean over B cells, NK cells and CD14 monocytes. The last
  columns show the F1 of that label alone.

The 1,460-gene study is left out of thinning and of larger panels. Each condition is drawn once, the same for all
methods and seeds. If a method was not run with all seeds in all conditions, all its columns use the seeds that the
conditions share.""",
    "ablation": """## What each part contributes

Parts of scim's training and labelling are switched off or replaced, on the blood studies. Change is the change of mean
macro-F1. Losses other than triplets come from pytorch-metric-learning with its default settings. They replace the
triplets and have the same weight. Self-supervised contrast has weight 0.2. "Weights averaged" averages the weights of
each step, with a decay of 0.98. Where labels are hidden, training knows one label in ten, and the reference all.""",
}
ALL = """## All held-out studies

Means over the {n} held-out studies of blood, distant studies, chemistries and islets. The last columns show macro-F1 by
group. Cells of the three chemistries count twice: once in a blood study with coarse labels, and once in their chemistry
with fine labels. Cell lines are left out because almost no method makes an error there."""
OUTRO = """## Where scim falls short, and what was tried

- **Hierarchical F** is {lead:.1f} points above the best other method over all studies.
  Difference to the best other method in each group:
  {by_group}.
  A wrong kind of lymphocyte shares most of its ancestors with the right one. If both methods are above .9, there is
  little left to gain.
- **Wrong labels.** With `min_probability=0.7` or more, fewer labels are wrong, and fewer cells get their own term
  ([ablation](ablation.md)). A rule that maximises the expected hierarchical F was tried: 0.883 of the cells got their
  own term, 0.106 were wrong, hierarchical F was 0.941 (23 studies, one seed). The rule of one half had 0.880, 0.105 and
  0.940, and is simpler.
- **Labels that only a panel study has.** With the head on all genes alone, no cell of another study gets such a label
  (macro-F1 0.73 over 17 studies, one seed). In the genes of the panel alone, the other labels lose (0.89 on the later
  studies, where both heads together have 0.92). A head on the expression itself beside them (the geometric mean) had
  0.004 more cells with their own label, and takes seconds for each set of genes. Not adopted.
- **Averages over the neighbours of a cell in the query** (`consensus=15`) help shallow data and tumour T cells, and
  cost rare labels: macro-F1 fell from 0.80 to 0.74 over 17 studies (one seed). So it is an option.
- **Coverage** is above the level that alpha asks for if a study is similar to the training studies, because the most
  probable label always stays in the set. It is below this level if a study differs more from the training studies than
  they differ from one another: PBMC by inDrops, sorted dendritic cells, and islets in 219 genes.
- **Calibration on cells that the encoder was not trained on** (a fifth of the cells) was tried. The error of confidence
  was 0.084 on chemistries, but 0.118 on distant studies, and macro-F1 on blood fell by 0.009. Not adopted.
- **Cells of the training studies** (suite `cells`) are labelled better by logistic regression, which learns the
  peculiarities of each study. **Shallow cells and small panels** (suite `robustness`): at 500 counts, or in a panel of
  1,000 genes, scim loses more macro-F1 than logistic regression. Both were measured before labels were chosen by
  probability, and are not on this page.
- **Mixing of studies**: Harmony, which was fitted to the studies that it joins, has the better batch score.
- **Studies on which other methods are better**: more augmentation, other losses ([ablation](ablation.md)) and the genes
  of all studies did not change this.
{better}
"""
CHOSEN = """If the row for each study is the best row on the other three studies, mean macro-F1 is {:.3f}. The default
has {:.3f} with the same seed. It was chosen with all four studies in view."""
