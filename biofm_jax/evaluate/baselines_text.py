"""The simple methods beside models of prose: the majority class, and regression on words."""

import dataclasses
from typing import Literal

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from biofm_jax.adapt.columns import most_likely
from biofm_jax.adapt.labelled import Labelled


def majority(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """The class that most training and validation items have; of equals the lowest number."""
    columns = []
    for labels in np.concatenate([train.targets, valid.targets]).T:
        classes, counts = np.unique(labels[~np.isnan(labels)], return_counts=True)
        columns.append(np.full(len(test), classes[counts.argmax()]))
    return np.stack(columns, axis=1)


@dataclasses.dataclass(frozen=True)
class TfidfLogistic:
    """Logistic regression on the TF-IDF of words: an adapter, deterministic.

    Counts are sublinear, 1 + log(count); texts are normalised to length 1. Nothing is chosen.

    Attributes:
        kind: of the label: "binary" predicts the probability of 1, "class" class numbers.
        ngram: words of the longest phrase that is a feature; all shorter ones are too.
        rarest: a phrase in fewer training texts is left out.
        strength: inverse penalty.
        balanced: weigh the classes alike.
        valid_trains: whether validation items train as well.
    """

    kind: Literal["binary", "class"]
    ngram: int
    rarest: int
    strength: float
    balanced: bool
    valid_trains: bool

    def __call__(self, train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        """As `Adapter`."""
        texts, targets = list(train.texts), train.targets
        if self.valid_trains:
            texts += valid.texts
            targets = np.concatenate([targets, valid.targets])
        columns = []
        for labels in targets.T:
            have = np.flatnonzero(~np.isnan(labels))
            columns.append(self._column([texts[i] for i in have], labels[have], test.texts))
        return np.stack(columns, axis=1)

    def _column(self, texts: list[str], labels: np.ndarray, new: tuple[str, ...]) -> np.ndarray:
        if len(np.unique(labels)) == 1:
            return np.full(len(new), labels[0])
        words = TfidfVectorizer(
            ngram_range=(1, self.ngram), min_df=min(self.rarest, len(texts)), sublinear_tf=True
        )
        model = LogisticRegression(
            C=self.strength,
            class_weight="balanced" if self.balanced else None,
            max_iter=2000,
        ).fit(words.fit_transform(texts), labels)
        guess = model.predict_proba(words.transform(new))
        return most_likely(labels, guess) if self.kind == "class" else guess[:, 1]


TEXT_BASELINES = {
    "majority": majority,
    "tfidf_logistic": TfidfLogistic("binary", 1, 3, 3.0, balanced=False, valid_trains=False),
    "tfidf_answers_logistic": TfidfLogistic("class", 1, 1, 30.0, balanced=False, valid_trains=True),
    "tfidf_phrases_logistic": TfidfLogistic("class", 2, 2, 10.0, balanced=True, valid_trains=True),
}
