"""Words of the page that annotation.py writes."""

from __future__ import annotations

INTRO = """# Labels of studies never seen, beside other methods

Real studies, each held out in turn; every method is trained on the same cells of the others and labels the held-out
ones. scim is trained with its defaults; the others are fitted anew to the genes that the held-out study measured.
"Logistic regression, balanced" is the best of three settings on the four blood studies; scim's defaults were chosen
with them in view, too. scVI and scANVI have 2,000 genes and 1,000 steps of 256 cells (300 more for scANVI, 300 for the
mapping; counts of the log1p study are restored from its smallest values), SCimilarity 5,000 genes, layers of 256-256 ->
64 and 400 steps of 500 cells with its own loss and weights: more would not end in minutes on two cores.

Accuracy, F scores and calibration error are of the most probable label of each cell, of scim the first of its
prediction set, also where `annotate` gives a broader term or none. What it does give, at alpha = 0.1, is in other
columns: "wrong label" is the share of cells given a term that is neither their own nor an ancestor of it (of the other
methods: whose most probable label is another one), "unassigned" those given none, "same term" those given their very
label (of the other methods: accuracy), and "error of confidence" the calibration error of `scim_confidence` over the
cells that got a term.

Scores are means over three seeds, and the spread is the largest less the smallest of the seeds' means; in logistic
regression nothing is drawn, so that it has one run and no spread. Each method ran in a process of its own; seconds are
of processor time, and peak memory holds the cells, too.

The scores of each run are in [a table]({name}.csv), from which a later run goes on (`--rows`). Made by

```bash
python tests/benchmarks/annotation.py --suite {suites} \\
    --results FOLDER --peer-python PYTHON --out docs/benchmarks/{name}.md
```
"""
TEXTS = {
    "blood": """## Blood

Four studies: 10x PBMC 3k; Zheng 2017, sorted; 10x PBMC of three chemistries, 1,460 genes, log1p only; lung lavage.
Coarse labels. Means over the four.

The 129 "CD14 monocytes" of Zheng 2017, sorted by that protein, express FCER1A, CD1C and CLEC10A, and a third of the
S100A8 of monocytes elsewhere: whoever calls them dendritic cells, as scim does, loses a fifth of macro-F1 there.""",
    "cells": """## Cells of the studies trained on

The same four studies, trained on four fifths of the cells of each, tested on the other fifth: what sets promise where
cells are of the reference's own studies.""",
    "distant": """## Studies far from the training cells

Trained on all four blood studies, with macrophages and epithelial cells of the lavage besides; tested on PBMC by
inDrops with about 100 counts a cell and 2,000 genes (ding), sorted dendritic cells by Smart-seq2 and 859 genes
(villani), a pancreatic tumour by inDrop (moncada), breast (20 cells of a type), and a head and neck tumour by
Smart-seq2 (puram; published as log2, undone). Only cells of labels that were trained. Macro-F1.""",
    "chemistry": """## Chemistries

10x PBMC by 3' v1, 3' v2 and 5' chemistry, 1,460 genes, the 15 fine labels of the authors: trained on two, tested on
the third. Macro-F1.""",
    "platform": """## Platforms

Five cell lines by CEL-seq2 (four batches), three of them by Drop-seq: trained on one platform, tested on the other,
named by the one tested. The labels are not in the ontology; SCimilarity takes no such labels. Macro-F1.""",
    "pancreas": """## Islets

Pancreas by inDrop (Baron, 175 cells), Smart-seq2 (Segerstolpe) and SMARTer (Lawlor, Xin; Wang, never trained on), in
panels of 12,474, 1,403, 1,403, 980 and 219 genes. Baron's cells in the panel of three studies are left out. Macro-F1;
few cells and fewer genes: read the differences between studies, not those of a point or two.""",
    "integration": """## Integration of studies never seen

Two of the blood studies are held out together, in all six ways, and embedded by what was trained on the other two;
scib-metrics scores how well cells of the two mix and labels stay apart, on labels that both have. No method has seen
their labels. PCA, SCimilarity and scim have not seen their cells either; Harmony, and scVI and scANVI by surgery, were
fitted to them. Total is 0.4 batch + 0.6 bio.""",
    "robustness": """## Robustness

Macro-F1 on the blood studies, and in brackets the change by what was made worse: labels of training cells drawn at
random, held-out cells cut to their most expressed genes or thinned to 500 counts, a label cut to 20 training cells (the
mean over B cells, NK cells and CD14 monocytes; the last columns have the F1 of that label alone). The 1,460-gene study
takes no part in thinning and in larger panels. What is made worse is drawn once, the same for all methods and seeds. Of
a method that not all conditions were run with all seeds of, all columns are of those that they share.""",
    "ablation": """## What each part is worth

Parts of scim's training and labelling switched off or exchanged, on the blood studies; change is that of the mean
macro-F1. Losses other than triplets are those of pytorch-metric-learning with its own settings, in the triplets' place
and with their weight. Self-supervised contrast has weight 0.2. Averaged are the weights of each step, with a decay of
0.98. Where labels are hidden, training knows one in ten, and the reference all of them.""",
}
ALL = """## All held-out studies

Means over the {n} studies of blood, distant ones, chemistries and islets, which are held out in turn; macro-F1 by group
beside them. The cells of the three chemistries count twice: as one of the studies of blood by coarse labels, and each
by fine ones. Cell lines are left out, for hardly a method errs on these."""
OUTRO = """## Where scim falls short, and what was tried

- **Hierarchical F** is {lead:.1f} points above the best other method over all, where three points were aimed at.
  Against the best other in each group: {by_group}.
  A wrong kind of lymphocyte shares most of its ancestors with the right one, and where both are above .9, little is
  left to gain. A second head on the expression of the landmarks, in the query's genes, was tried beside the one on the
  embedding: the mean of both has 0.01 less of it on blood and on distant studies.
- **Coverage** is above what alpha asks for where a study is like the others, for the most probable label always stays
  in the set: an empty set would help nobody. So sets at alpha = 0.2 hold as many labels on blood as those at 0.1 do. It
  is below on studies that differ more from those trained on than these do from one another: PBMC by inDrops, sorted
  dendritic cells and one of the tumours, lung lavage, and a little on the chemistries and on islets in 219 genes. What
  corrects for that is that the p-value of a label is the largest over the studies left out, and that these are tried
  with a seventh of their counts: cells that the encoder was trained on lie nearer to their label than others do. With
  all their counts, sets at alpha = 0.05 held 0.86 of the labels of the three chemistries and 0.87 of those of the
  distant studies, and the error of confidence was 0.118 and 0.093 (blood: 0.036). The share of counts was chosen on
  blood among 0.07, 0.1, 0.15 and 0.3, where 0.15 has the least of it.
- **Calibration by cells as hard to tell as the query's** was tried: landmarks with yet fewer counts, until the head is
  no surer of them than of the query. With one seed, sets of distant studies held 0.01 more of the labels at alpha =
  0.05 and 0.02 more at 0.1, and the error of confidence was 0.01 smaller; but with the bundled reference 43 % instead
  of 78 % of the inDrops PBMC got a specific label, where 95 % of all labels were right before. Left out.
- **Calibration on cells that the encoder was not trained on** (a fifth, left aside) was tried, too: chemistries
  0.90 and 0.084, but distant studies 0.84 and 0.118, for a fifth of the cells tells less of each label; and macro-F1
  on blood fell by 0.009. Left out.
- **Cells of the studies trained on** are labelled better by logistic regression, which learns what is their own.
- **Caution costs detail.** At alpha = 0.1 scim is wrong less often than other methods, and gives fewer cells their very
  term: some get a broader one, and many cells of other platforms and of tumours get none. Whoever wants a label for
  each takes the first of `scim_set`; with `novelty_fdr=0`, novel cells get what their sets allow.
- **Shallow cells and small panels**: thinned to 500 counts, or in a panel of 1,000 genes, scim loses more than logistic
  regression. It stays above it in both.
- **Mixing of studies**: Harmony, which was fitted to the studies that it joins, has the better batch score.
- **Studies on which others do better**; more augmentation, other losses ([ablation](ablation.md)) and the genes of all
  studies did not change that:
{better}
"""
CHOSEN = """With the row that is best on the other three studies chosen for each, the mean macro-F1 is {:.3f}; the
default has {:.3f} with the same seed, and was chosen with all four in view."""
