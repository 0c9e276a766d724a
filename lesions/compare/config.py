"""Say how sure the intervals are, and hand on what params.yaml says of how things were trained."""

from lesions.classify.config import Classifier, CrossValidation
from lesions.core.config import Fraction, Name, Section
from lesions.gan.config import BaseModelRecipe, BaseModelRun
from lesions.pictures.config import Masked
from lesions.predict.config import Ensemble, Score, Scored
from lesions.raw.config import Resize
from lesions.segment.config import Segment


class Compare(Section):
    confidence: Fraction


class Chosen(Section):
    """What was run, and how: the stage check writes it (data/chosen.json), compare reads it."""

    source: str
    sets: tuple[str, ...]
    unets: tuple[str, ...]
    compare: Compare
    classifiers: dict[Name, Classifier]
    cross_validate: dict[str, CrossValidation]
    ensembles: dict[Name, Ensemble]
    score: dict[Scored, Score]
    base_models: dict[Name, BaseModelRun]
    base_model: BaseModelRecipe
    segment: Segment
    resize: dict[str, Resize]
    masked: dict[Name, Masked]
