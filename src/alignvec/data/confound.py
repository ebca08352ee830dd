"""What gives a reply's level away: classifiers over its words, and over nothing but how many there are."""

from typing import Any

from alignvec.data.unspaced import words

FOLDS = 5


def word_count(text: str) -> int:
    """Number of words, as spaces separate them; about that of a script without spaces, see `unspaced.words`."""
    return len(words(text))


def length_classifier() -> Any:
    """A classifier over word counts, [replies, 1]; deterministic."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def text_classifier() -> Any:
    """A classifier over texts: TF-IDF of words and word pairs, then logistic regression; deterministic.

    Texts without spaces between words must come cut into words, see `unspaced.words`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, strip_accents="unicode"),
        LogisticRegression(C=10.0, max_iter=1000),
    )


def held_out_accuracy(classifier: Any, features: Any, levels: Any, personas: Any) -> float | None:
    """Share of replies whose level a classifier finds, each judged by one that saw no reply of its persona.

    `FOLDS`-fold cross-validation over personas, fewer folds if there are fewer personas.

    Args:
        classifier: an unfitted scikit-learn classifier.
        features: one entry a reply, as the classifier takes them.
        levels: true level of each reply, [replies].
        personas: persona that each reply was written to, [replies].

    Returns:
        The share, or None if it cannot be measured: one persona only, or nothing to learn from.
    """
    import numpy as np
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = min(FOLDS, len(set(personas)))
    if folds < 2:
        return None
    try:
        said = cross_val_predict(classifier, features, levels, groups=personas, cv=GroupKFold(folds))
    except ValueError as error:  # no word is in two replies, so that there is no vocabulary
        if "vocabulary" not in str(error) and "no terms remain" not in str(error).lower():
            raise
        return None
    return float((said == np.asarray(levels)).mean())
