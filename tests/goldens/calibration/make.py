"""Writes what scikit-learn, SciPy and NumPy make of the formulas of crates/calibration.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

Temperature: SciPy's minimisers on the log loss. Calibration error: scikit-learn's calibration_curve.
Log loss, AUROC, ROC: scikit-learn. Covariance: scikit-learn's ledoit_wolf. Interval of a share: SciPy's
binomtest. Quantile of scores and sets of the unpenalised method: MAPIE's own RAPS arithmetic has no
u = 0, so the sets come from NumPy's cumsum, and MAPIE gives the probabilities' sum above a label.
"""

import json
from pathlib import Path

import numpy as np
from mapie.conformity_scores import APSConformityScore
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp, softmax
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

HERE = Path(__file__).resolve().parent
BINS = 15


def least(loss):
    """The inverse temperature with the least loss, as a temperature."""
    return 1 / minimize_scalar(loss, bounds=(1 / 32, 32), method="bounded", options={"xatol": 1e-10}).x


def ece(scores, right):
    true, predicted = calibration_curve(right, scores, n_bins=BINS)
    # The same bins, without the empty ones that calibration_curve leaves out.
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    counts = np.bincount(np.searchsorted(inner, scores), minlength=BINS)
    return float(np.abs(true - predicted) @ counts[counts > 0] / len(scores))


def raps_scores(p, weight, free):
    """The score of every label: the sum above it and the penalty of its rank."""
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, 1)
    above = np.cumsum(ranked, 1) - ranked
    ranks = np.arange(1, p.shape[1] + 1)
    scores = above + weight * np.maximum(ranks - free, 0)
    scores[:, 0] = 0
    out = np.empty_like(p)
    np.put_along_axis(out, order, scores, 1)
    return out


def main():
    rng = np.random.default_rng(21)
    n, classes = 60, 4
    labels = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) * 2
    logits[np.arange(n), labels] += 2.5
    logits = np.round(logits * 64) / 64  # exact in float32
    z = logits.astype(float)

    temperature = least(lambda b: np.mean(logsumexp(b * z, axis=1) - b * z[np.arange(n), labels]))
    p = softmax(z / temperature, axis=1)
    scores = p.max(1).astype(np.float32).astype(float)
    right = p.argmax(1) == labels
    holds = rng.random(n) < expit(z[:, 0] / 1.7)
    binary = least(lambda b: np.mean(np.logaddexp(0, b * z[:, 0]) - b * holds * z[:, 0]))

    penalty = {"weight": 0.05, "free": 2}
    own = raps_scores(p, **penalty)
    level = 0.9
    rank = int(np.ceil((n + 1) * level))
    threshold = float(np.sort(own[np.arange(n), labels])[rank - 1])
    sets = [[int(c) for c in np.argsort(-row, kind="stable") if s[c] <= threshold] for row, s in zip(p, own)]
    # MAPIE's score is the sum up to and with the label.
    mapie = APSConformityScore()
    mapie.classes = np.arange(classes)
    inclusive, _ = mapie.get_true_label_cumsum_proba(labels, p, np.arange(classes))
    above = inclusive[:, 0] - p[np.arange(n), labels]

    d, k = 5, 3
    mix = rng.normal(size=(d, d))
    centres = rng.normal(size=(k, d)) * 4
    classes_of = np.arange(40) % k
    features = np.round((centres[classes_of] + rng.normal(size=(40, d)) @ mix) * 256) / 256
    means = np.stack([features[classes_of == c].mean(0) for c in range(k)])
    mean = features.mean(0)
    within, within_shrinkage = ledoit_wolf(features - means[classes_of], assume_centered=True)
    overall, overall_shrinkage = ledoit_wolf(features - mean, assume_centered=True)
    queries = np.round(rng.normal(size=(10, d)) * 8 * 256) / 256

    def distance(x):
        near = min((x - m) @ np.linalg.inv(within) @ (x - m) for m in means)
        return near - (x - mean) @ np.linalg.inv(overall) @ (x - mean)

    familiar = np.round(rng.normal(1, 1, size=50), 1)
    unlike = np.round(rng.normal(-0.5, 1, size=40), 1)
    truth, values = np.r_[np.ones(50), np.zeros(40)], np.r_[familiar, unlike]
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    interval = binomtest(1893, 2000).proportion_ci(method="wilson")

    golden = {
        "logits": logits.tolist(),
        "labels": labels.tolist(),
        "temperature": temperature,
        "probabilities": p.tolist(),
        "energy": (-logsumexp(z, axis=1)).tolist(),
        "ece": ece(scores, right),
        "log_loss": log_loss(labels, p),
        "holds": holds.tolist(),
        "binary_temperature": binary,
        "penalty": penalty,
        "label_scores": own[np.arange(n), labels].tolist(),
        "mass_above": above.tolist(),
        "threshold": threshold,
        "sets": sets,
        "features": features.tolist(),
        "classes": classes_of.tolist(),
        "within": within.ravel().tolist(),
        "within_shrinkage": within_shrinkage,
        "overall_shrinkage": overall_shrinkage,
        "queries": queries.tolist(),
        "distances": [distance(x) for x in queries],
        "familiar": familiar.tolist(),
        "unlike": unlike.tolist(),
        "auroc": roc_auc_score(truth, values),
        "fpr95": float(fpr[np.argmax(tpr >= 0.95)]),
        "share": [interval.low, interval.high],
    }
    (HERE / "expected.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
