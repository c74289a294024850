"""Texts of the page that annotation.py writes."""

from __future__ import annotations

INTRO = """# Labels of unseen studies: scim and other methods

Each real study is held out in turn. Every method trains on the same cells of the other studies and labels the held-out
cells. scim is trained with its defaults. The other methods are fitted again to the genes that the held-out study
measured. "Logistic regression, balanced" is the best of three settings on the four blood studies. scim's defaults were
chosen with these studies in view, too. scVI and scANVI use 2,000 genes and 1,000 steps of 256 cells, with 300 more
steps for scANVI and 300 for the mapping. For them, counts of the log1p study are restored from its smallest values.
SCimilarity uses 5,000 genes, layers of 256-256 -> 64, and 400 steps of 500 cells with its own loss and weights. Larger
settings would not finish in minutes on two cores.

Accuracy, F scores and calibration error are scores of the most probable label of each cell. For scim, this is the first
label of the prediction set, even if `annotate` gives a broader term or none. Other columns score the terms that scim
gives at alpha = 0.1:

- "wrong label": share of cells with a term that is neither their own label nor an ancestor of it. For other methods:
  share of cells whose most probable label is wrong.
- "unassigned": share of cells without a term.
- "same term": share of cells with exactly their own label. For other methods: accuracy.
- "error of confidence": calibration error of `scim_confidence` over the cells with a term.

Scores are means over three seeds. The spread is the largest minus the smallest mean of a seed. Logistic regression uses
no random numbers, so it has one run and no spread. Each method ran in its own process. Seconds are processor time. Peak
memory includes the cells.

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

- **Hierarchical F** is {lead:.1f} points above the best other method over all studies. The aim was three points.
  Difference to the best other method in each group:
  {by_group}.
  A wrong kind of lymphocyte shares most of its ancestors with the right one. If both methods are above .9, there is
  little left to gain. A second head on the expression of the landmarks, in the genes of the query, was tried together
  with the head on the embedding. The mean of both heads had 0.01 less hierarchical F on blood and on distant studies.
- **Coverage** is above the level that alpha asks for if a study is similar to the training studies. The reason: the
  most probable label always stays in the set, because an empty set would not help the user. So on blood, sets at
  alpha = 0.2 hold as many labels as sets at 0.1. Coverage is below this level if a study differs more from the training
  studies than they differ from one another: PBMC by inDrops, sorted dendritic cells, one of the tumours, lung lavage,
  and slightly the chemistries and islets in 219 genes. Two steps correct for this. The p-value of a label is the
  largest over the studies left out. These studies are tested with a seventh of their counts, because cells that the
  encoder was trained on lie nearer to their label than other cells. With all their counts, sets at alpha = 0.05 held
  0.86 of the labels of the three chemistries and 0.87 of the labels of the distant studies, and the error of confidence
  was 0.118 and 0.093 (blood: 0.036). The share of counts was chosen on blood from 0.07, 0.1, 0.15 and 0.3. The error of
  confidence was smallest at 0.15.
- **Calibration on cells as difficult as the query's** was tried: counts of landmarks were reduced further, until the
  head was as uncertain about them as about the query. With one seed, sets of distant studies held 0.01 more of the
  labels at alpha = 0.05 and 0.02 more at 0.1, and the error of confidence was 0.01 smaller. But with the bundled
  reference only 43 % instead of 78 % of the inDrops PBMC got a specific label, although 95 % of all labels were already
  right. Not adopted.
- **Calibration on cells that the encoder was not trained on** (a fifth of the cells) was tried, too. Coverage and error
  of confidence were 0.90 and 0.084 on chemistries, but 0.84 and 0.118 on distant studies, because a fifth of the cells
  says less about each label. Macro-F1 on blood fell by 0.009. Not adopted.
- **Cells of the training studies** are labelled better by logistic regression, which learns the peculiarities of each
  study.
- **Caution costs detail.** At alpha = 0.1 scim is wrong less often than other methods, and gives fewer cells their
  exact term. Some cells get a broader term, and many cells of other platforms and of tumours get none. If you need a
  label for every cell, take the first label of `scim_set`. With `novelty_fdr=0`, novel cells get the term of their
  prediction set.
- **Shallow cells and small panels**: at 500 counts, or in a panel of 1,000 genes, scim loses more macro-F1 than
  logistic regression. It stays above logistic regression in both conditions.
- **Mixing of studies**: Harmony, which was fitted to the studies that it joins, has the better batch score.
- **Studies on which other methods are better**: more augmentation, other losses ([ablation](ablation.md)) and the genes
  of all studies did not change this.
{better}
"""
CHOSEN = """If the row for each study is the best row on the other three studies, mean macro-F1 is {:.3f}. The default
has {:.3f} with the same seed. It was chosen with all four studies in view."""
