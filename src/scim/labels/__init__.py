"""Label cells: votes, a calibrated head, prediction sets, and tests of novelty."""

from ._balanced import balanced_sample
from ._calibration import Calibration, Scored, calibrate
from ._doubts import doubtful_labels
from ._head import CalibrationKind, Head
from ._landmarks import LANDMARKS_PER_GROUP, LANDMARKS_PER_SEGMENT, LabelledLandmarks, LandmarkKind, Landmarks, thinned
from ._model import LabelModel, MatchedModel
from ._sets import assign, cover, prediction_sets
from ._votes import PLAIN_VOTES, Vote, check_vote, ontology_vote, plain_vote

__all__ = [
    "LANDMARKS_PER_GROUP", "LANDMARKS_PER_SEGMENT", "PLAIN_VOTES",
    "Calibration", "CalibrationKind", "Head", "LabelledLandmarks", "LabelModel", "LandmarkKind", "Landmarks",
    "MatchedModel", "Scored", "Vote",
    "assign", "balanced_sample", "calibrate", "check_vote", "cover", "doubtful_labels", "ontology_vote",
    "plain_vote", "prediction_sets", "thinned",
]  # fmt: skip
