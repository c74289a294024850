"""What labels cells get, with which probability, and whether they get one."""

from ._balanced import balanced_sample
from ._calibration import Calibration, CalibrationKind, Scored, calibrate
from ._doubts import doubtful_labels
from ._head import Head
from ._landmarks import ENOUGH, MOST, PER_GROUP, LandmarkKind, Landmarks, thinned
from ._model import _KEPT, MatchedModel, _key_of
from ._novelty import ProfileFolds, Profiles
from ._panels import comparable_genes, unseen_genes
from ._sets import assign, cover, prediction_sets
from ._votes import PLAIN_VOTES, Vote, check_vote, plain_vote, vote

__all__ = [
    "Calibration",
    "CalibrationKind",
    "ENOUGH",
    "Head",
    "MatchedModel",
    "LandmarkKind",
    "Landmarks",
    "MOST",
    "PER_GROUP",
    "PLAIN_VOTES",
    "ProfileFolds",
    "Profiles",
    "Scored",
    "Vote",
    "_KEPT",
    "_key_of",
    "assign",
    "calibrate",
    "check_vote",
    "balanced_sample",
    "comparable_genes",
    "cover",
    "doubtful_labels",
    "plain_vote",
    "prediction_sets",
    "thinned",
    "unseen_genes",
    "vote",
]
