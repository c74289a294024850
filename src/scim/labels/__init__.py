"""Label cells: votes, a calibrated head, prediction sets, and tests of novelty."""

from ._balanced import balanced_sample
from ._calibration import Calibration, PanelHead, calibrate
from ._doubts import doubtful_labels
from ._head import CalibrationKind, Head
from ._landmarks import LANDMARKS_PER_GROUP, LANDMARKS_PER_SEGMENT, LabelledLandmarks, LandmarkKind, Landmarks, thinned
from ._model import LabelModel, MatchedModel, panel_head
from ._novelty import Profiles
from ._sets import assign, prediction_sets, set_texts
from ._thinned import Thinned, thinned_landmarks
from ._tissues import TissueGuess, are_enough, favour_present, guess_tissue, label_shares
from ._votes import PLAIN_VOTES, Vote, check_vote, ontology_vote, plain_vote

__all__ = [
    "LANDMARKS_PER_GROUP", "LANDMARKS_PER_SEGMENT", "PLAIN_VOTES",
    "Calibration", "CalibrationKind", "Head", "LabelledLandmarks", "LabelModel", "LandmarkKind", "Landmarks",
    "MatchedModel", "PanelHead", "Profiles", "Thinned", "TissueGuess", "Vote",
    "are_enough", "assign", "balanced_sample", "calibrate", "check_vote", "doubtful_labels", "favour_present",
    "guess_tissue", "label_shares", "ontology_vote", "panel_head", "plain_vote", "prediction_sets", "set_texts",
    "thinned", "thinned_landmarks",
]  # fmt: skip
