"""The law of the `sentiment_toy` sets, and the best predictions: closed forms against integrals and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sentiment import ON_TEST, POPULATION, SETS, Stored, headline, stored
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, hamming_loss, mean_absolute_error

from mmlbench.api.making import ensure_cache
from mmlbench.datasets import sentiment_toy, sentiment_toy_labels
from mmlbench.datasets._latent_sequences import PADDING, Law
from mmlbench.datasets.sentiment_toy import SentimentToy
from mmlbench.datasets.sentiment_toy_labels import SHARES, THRESHOLDS, SentimentToyLabels
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index

LAW: Law = sentiment_toy.LAW
LABELS: Law = sentiment_toy_labels.LAW
#: Draws of simulations.
DRAWS = 200_000


@pytest.fixture(scope="module")
def data(embedded: Callable[[str], Cache]) -> dict[str, Stored]:
    """Return all samples of both sets."""
    return {name: stored(embedded(name), name, "train", "val", "test") for name in SETS}


@pytest.fixture(scope="module")
def tested(embedded: Callable[[str], Cache]) -> dict[str, Stored]:
    """Return the test parts."""
    return {name: stored(embedded(name), name, "test") for name in SETS}


def drawn(law: Law, count: int = DRAWS) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return latents (n, K), y and lengths of many samples, by the plainest words of the law."""
    rng = np.random.default_rng(0)
    correlations = np.full((law.latents, law.latents), law.correlation)
    np.fill_diagonal(correlations, 1)
    latent = rng.multivariate_normal(np.zeros(law.latents), correlations, count)
    shown, lengths = {}, {}
    for sensor in law.sensors:
        turns = rng.uniform(math.log(sensor.shortest), math.log(sensor.longest + 1), count)
        length = lengths[sensor.name] = np.floor(np.exp(turns)).astype(int)
        sd = np.sqrt(sensor.own_sd**2 + sensor.step_sd**2 / length)
        shown[sensor.name] = latent + sd[:, None] * rng.standard_normal(latent.shape)
    return latent, shown, lengths


# ---- the law -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SETS)
def test_lengths_have_the_stated_distribution_and_tell_nothing(name: str, data: dict[str, Stored]) -> None:
    found = data[name]
    for sensor in found.law.sensors:
        known, probability = sensor.lengths()
        assert probability.sum() == pytest.approx(1)
        length = found.lengths[sensor.name]
        assert length.min() == sensor.shortest and length.max() == sensor.longest
        counts = np.array([(length == one).sum() for one in known])
        assert stats.chisquare(counts, probability * len(length)).pvalue > 1e-3
        assert stats.chisquare(counts, np.full(len(known), len(length) / len(known))).pvalue < 1e-9, "not uniform"
    pairs = np.column_stack([*found.lengths.values(), found.latent, np.abs(found.latent)])
    beside = np.corrcoef(pairs.T)[:2, 1:][np.triu_indices(2, 0, pairs.shape[1] - 1)]
    assert np.abs(beside).max() < 4 / math.sqrt(len(pairs))


@pytest.mark.parametrize("name", SETS)
def test_latents_and_targets_are_as_stated(name: str, data: dict[str, Stored]) -> None:
    found = data[name]
    n, k = found.latent.shape
    assert np.abs(found.latent.mean(0)).max() < 4 / math.sqrt(n)
    wanted = np.full((k, k), found.law.correlation)
    np.fill_diagonal(wanted, 1)
    assert np.abs(np.cov(found.latent.T).reshape(k, k) - wanted).max() < 4 * math.sqrt(2 / n)
    if name == "sentiment_toy":
        assert np.array_equal(found.label, found.latent[:, 0].astype(np.float32))
        assert stats.kstest(found.latent[:, 0], "norm").pvalue > 1e-3
    else:
        assert np.array_equal(found.label, found.latent > THRESHOLDS)
        shares = np.array(list(SHARES.values()))
        assert (np.abs(found.label.mean(0) - shares) < 4 * np.sqrt(shares * (1 - shares) / n)).all()
        assert 0.1 < (found.label.sum(1) == 0).mean() < 0.6, "some samples have no label"


@pytest.mark.parametrize("name", SETS)
def test_steps_show_the_latents_as_stated(name: str, data: dict[str, Stored]) -> None:
    found = data[name]
    n, k = found.latent.shape
    for sensor in found.law.sensors:
        form = found.law.form(sensor)
        assert form.patterns.T @ form.patterns == pytest.approx(np.eye(k), abs=1e-12)
        length = found.lengths[sensor.name]
        beside = found.law.shown(sensor, found.steps[sensor.name], length) - found.latent
        score = beside / np.sqrt(sensor.variance(length))[:, None]
        assert np.abs(score.mean(0)).max() < 4 / math.sqrt(n) and abs(score.var() - 1) < 4 * math.sqrt(2 / score.size)
        shorter = score[length <= np.median(length)]
        assert abs(shorter.var() - 1) < 4 * math.sqrt(2 / shorter.size), "the variance follows the length"
        plain = [found.plain(sensor, row) for row in range(n)]
        within = np.concatenate([steps - steps.mean(0) for steps in plain])
        freedom = (length - 1).sum() * sensor.features
        assert (within**2).sum() / freedom == pytest.approx(sensor.step_sd**2, rel=4 * math.sqrt(2 / freedom))
        y = found.law.shown(sensor, found.steps[sensor.name], length)
        known, probability = sensor.lengths()
        wanted = 1 / math.sqrt(1 + probability @ sensor.variance(known))
        for one in range(k):
            assert np.corrcoef(y[:, one], found.latent[:, one])[0, 1] == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("name", SETS)
def test_behind_a_sequence_stands_what_no_step_is_like(name: str, data: dict[str, Stored]) -> None:
    found = data[name]
    for sensor in found.law.sensors:
        real = np.arange(sensor.longest) < found.lengths[sensor.name][:, None]
        assert (found.steps[sensor.name][~real] == PADDING).all()
        assert np.abs(found.steps[sensor.name][real]).max() < PADDING / 2


@pytest.mark.parametrize("name", SETS)
def test_more_padding_changes_nothing_else(name: str, embedded: Callable[[str], Cache], tmp_path: Path) -> None:
    one, other = embedded(name), ensure_cache(name, {"padding": 13}, tmp_path, load_index())
    for sensor in SETS[name].LAW.sensors:
        arrays = one.array(sensor.name), other.array(sensor.name)
        assert arrays[1].shape[2] == arrays[0].shape[2] + 13
        assert np.array_equal(arrays[0], arrays[1][:, :, : sensor.longest])
        assert (arrays[1][:, :, sensor.longest :] == PADDING).all()
        assert np.array_equal(one.lengths(sensor.name), other.lengths(sensor.name))
        assert one.moments("iid", sensor.name) == other.moments("iid", sensor.name)
    assert np.array_equal(one.extra("latent"), other.extra("latent"))
    for part in ("train", "val", "test"):
        assert np.array_equal(one.part("iid", part).label, other.part("iid", part).label)


# ---- the posterior -----------------------------------------------------------------------------------------------
def covariance(law: Law, lengths: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance of all real steps of a sample, one after the other, and that of the latents with them."""
    latent = np.full((law.latents, law.latents), law.correlation)
    np.fill_diagonal(latent, 1)
    chosen = [sensor for sensor in law.sensors if sensor.name in lengths]
    show = [np.tile(law.form(sensor).patterns, (lengths[sensor.name], 1)) for sensor in chosen]
    whole = np.concatenate(show) @ latent @ np.concatenate(show).T
    start = 0
    for sensor, pattern in zip(chosen, show, strict=True):
        block = slice(start, start + len(pattern))
        whole[block, block] += sensor.own_sd**2 * pattern @ pattern.T + sensor.step_sd**2 * np.eye(len(pattern))
        start = block.stop
    return whole, latent @ np.concatenate(show).T


@pytest.mark.parametrize("name", SETS)
def test_the_posterior_is_that_of_the_joint_normal_of_all_steps(name: str, tested: dict[str, Stored]) -> None:
    found = tested[name]
    law = found.law
    for names in law.subsets().values():
        posterior = found.posterior(names)
        for row in range(12):
            lengths = {one: int(found.lengths[one][row]) for one in names}
            steps, across = covariance(law, lengths)
            values = np.concatenate([found.plain(s, row).ravel() for s in law.sensors if s.name in names])
            gain = np.linalg.solve(steps, across.T).T
            assert posterior.mean[row] == pytest.approx(gain @ values, abs=1e-9)
            left = np.eye(law.latents) * (1 - law.correlation) + law.correlation - gain @ across.T
            assert np.diag(left) == pytest.approx(posterior.sd[row, 0] ** 2, abs=1e-9)
            q = posterior.scores(THRESHOLDS[: law.latents])[row]
            above = stats.norm.sf(THRESHOLDS[: law.latents], gain @ values, np.sqrt(np.diag(left)))
            assert stats.norm.cdf(q) == pytest.approx(above, abs=1e-9)


def test_the_posterior_is_that_of_an_integral_over_the_sentiment(tested: dict[str, Stored]) -> None:
    found, grid = tested["sentiment_toy"], np.linspace(-9, 9, 3601)
    for names in LAW.subsets().values():
        posterior = found.posterior(names)
        for row in range(6):
            log = stats.norm.logpdf(grid)
            for sensor in (s for s in LAW.sensors if s.name in names):
                steps = found.plain(sensor, row)
                show = np.tile(LAW.form(sensor).patterns, (len(steps), 1))
                given = sensor.own_sd**2 * show @ show.T + sensor.step_sd**2 * np.eye(steps.size)
                away = steps.ravel() - grid[:, None] * show[:, 0]
                log = log + stats.multivariate_normal(np.zeros(steps.size), given).logpdf(away)
            mass = np.exp(log - log.max())
            mass /= mass.sum()
            mean = mass @ grid
            assert posterior.mean[row, 0] == pytest.approx(mean, abs=1e-6)
            assert posterior.sd[row, 0] == pytest.approx(math.sqrt(mass @ (grid - mean) ** 2), abs=1e-6)
            median = grid[np.searchsorted(np.cumsum(mass), 0.5)]
            assert posterior.mean[row, 0] == pytest.approx(median, abs=0.006), "the median has the least error"
            error = mass @ np.abs(grid - mean)
            assert math.sqrt(2 / math.pi) * posterior.sd[row, 0] == pytest.approx(error, abs=1e-4)


@pytest.mark.parametrize("name", SETS)
def test_the_posterior_mean_is_scikit_learns_ridge_over_all_steps(name: str, tested: dict[str, Stored]) -> None:
    """Its coefficients are uncorrelated parts of the latents, and what each sensor adds to these."""
    found = tested[name]
    law, k = found.law, found.law.latents
    root = np.linalg.cholesky(np.eye(k) * (1 - law.correlation) + law.correlation)
    for names in law.subsets().values():
        posterior = found.posterior(names)
        chosen = [sensor for sensor in law.sensors if sensor.name in names]
        for row in range(12):
            design, values = [], []
            for place, sensor in enumerate(chosen):
                pattern, steps = law.form(sensor).patterns, found.plain(sensor, row)
                added = np.zeros((sensor.features, k * len(chosen)))
                added[:, place * k : (place + 1) * k] = sensor.own_sd * pattern
                design.append(np.tile(np.hstack([pattern @ root, added]) / sensor.step_sd, (len(steps), 1)))
                values.append(steps.ravel() / sensor.step_sd)
            ridge = Ridge(alpha=1.0, fit_intercept=False, solver="cholesky")
            ridge.fit(np.concatenate(design), np.concatenate(values))
            assert root @ ridge.coef_[:k] == pytest.approx(posterior.mean[row], abs=1e-9)


# ---- the best there is -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "kind"), [("sentiment_toy", SentimentToy), ("sentiment_toy_labels", SentimentToyLabels)]
)
def test_the_best_is_stated_for_many_samples_and_for_the_test_part(
    name: str, kind: type, tested: dict[str, Stored]
) -> None:
    found, said = tested[name], kind().bayes()
    assert said == pytest.approx(POPULATION[name], abs=5e-5)
    reached = {key: headline(name, found.posterior(names), found.label) for key, names in found.law.subsets().items()}
    assert reached == pytest.approx(ON_TEST[name], abs=5e-5)
    for key, value in said.items():
        assert reached[key] == pytest.approx(value, abs=0.03), "1,000 samples"
        for one in (value, reached[key]):
            assert f"{one:.3f}".removeprefix("0") in kind.__doc__


def test_the_page_on_tasks_has_these_numbers() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    for name, digits in {"sentiment_toy": "{:.3f}", "sentiment_toy_labels": "{:.1f}"}.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` "))
        for values in (POPULATION[name], ON_TEST[name]):
            scale = 1 if name == "sentiment_toy" else 100
            assert ", ".join(digits.format(scale * value) for value in values.values()) in row


def test_the_least_error_and_the_greatest_correlation_are_those_of_a_simulation() -> None:
    latent, shown, lengths = drawn(LAW)
    for names in LAW.subsets().values():
        posterior = LAW.posterior({one: shown[one] for one in names}, lengths)
        assert mean_absolute_error(latent, posterior.mean) == pytest.approx(LAW.least_error(names), abs=0.004)
        correlation = np.corrcoef(latent[:, 0], posterior.mean[:, 0])[0, 1]
        assert correlation == pytest.approx(LAW.greatest_correlation(names), abs=0.004)
    assert LAW.least_error(()) == pytest.approx(math.sqrt(2 / math.pi)) and LAW.greatest_correlation(()) == 0


@pytest.mark.slow
def test_the_best_average_precision_is_that_of_a_simulation() -> None:
    latent, shown, lengths = drawn(LABELS)
    for names in LABELS.subsets().values():
        scores = LABELS.posterior({one: shown[one] for one in names}, lengths).scores(THRESHOLDS)
        for k, threshold in enumerate(THRESHOLDS):
            found = average_precision_score(latent[:, k] > threshold, scores[:, k])
            assert found == pytest.approx(LABELS.best_average_precision(names, threshold), abs=0.006)


def test_average_precision_does_not_hang_on_the_step_and_ends_where_it_must() -> None:
    for threshold in THRESHOLDS:
        coarse, fine = (LABELS.best_average_precision(("voice",), threshold, cells) for cells in (1000, 8000))
        assert coarse == pytest.approx(fine, abs=5e-5)
    sharp = replace(LABELS, sensors=(replace(LABELS.sensors[0], own_sd=0.001, step_sd=0.001),))
    assert sharp.best_average_precision(("language",), THRESHOLDS[-1]) > 0.999
    blunt = replace(LABELS, sensors=(replace(LABELS.sensors[0], own_sd=300.0),))
    assert blunt.best_average_precision(("language",), THRESHOLDS[-1]) == pytest.approx(0.15, abs=0.002)


def test_whatever_departs_from_the_best_prediction_is_worse() -> None:
    latent, shown, lengths = drawn(LAW)
    best = LAW.posterior(shown, lengths).mean
    least = np.abs(latent - best)
    typical = {name: np.full(DRAWS, int(np.median(length))) for name, length in lengths.items()}
    shuffled = {name: length[::-1] for name, length in lengths.items()}
    others = {
        "shrunk": 0.9 * best,
        "stretched": 1.1 * best,
        "shifted": best + 0.05,
        "one length for all": LAW.posterior(shown, typical).mean,
        "lengths of others": LAW.posterior(shown, shuffled).mean,
        "a mean of both": np.mean([LAW.posterior({k: y}, lengths).mean for k, y in shown.items()], axis=0),
    }
    for what, other in others.items():
        more = np.abs(latent - other) - least
        assert more.mean() > 5 * more.std() / math.sqrt(DRAWS), what


def test_the_mean_of_the_two_best_predictions_is_what_an_ensemble_reaches(tested: dict[str, Stored]) -> None:
    found = tested["sentiment_toy"]
    both = np.mean([found.posterior((name,)).mean for name in ("language", "voice")], axis=0)
    assert mean_absolute_error(found.label, both) == pytest.approx(0.4123, abs=5e-5)


def test_the_best_ranking_reads_what_is_shown_of_every_label() -> None:
    latent, shown, lengths = drawn(LABELS, 50_000)
    label = latent > THRESHOLDS
    alone = replace(LABELS, correlation=0.0)
    both, own = (
        average_precision_score(label, law.posterior(shown, lengths).scores(THRESHOLDS), average="macro")
        for law in (LABELS, alone)
    )
    assert both > own + 0.005


# ---- what the mask is worth --------------------------------------------------------------------------------------
def linear_rule(names: tuple[str, ...], masked: bool) -> float:
    """Return the error of the best linear map of mean steps, of samples of all lengths: a closed form.

    Given the lengths what it leaves of the sentiment is normal. A mean that counts padding is y T / (steps with it).
    """
    sensors = [sensor for sensor in LAW.sensors if sensor.name in names]
    lengths = [grid.ravel() for grid in np.meshgrid(*[s.lengths()[0] for s in sensors], indexing="ij")]
    chances = [grid.ravel() for grid in np.meshgrid(*[s.lengths()[1] for s in sensors], indexing="ij")]
    chance = np.prod(chances, axis=0)
    size = [-(-sensor.longest // 8) * 8 for sensor in sensors]  # to which a batch is padded
    share = np.array([np.ones(len(t)) if masked else t / n for t, n in zip(lengths, size, strict=True)])
    noise = np.array([share[k] ** 2 * s.variance(lengths[k]) for k, s in enumerate(sensors)])
    second = (share * chance) @ share.T + np.diag(noise @ chance)
    weight = np.linalg.solve(second, share @ chance)
    left = (1 - weight @ share) ** 2 + weight**2 @ noise
    return float(math.sqrt(2 / math.pi) * (chance @ np.sqrt(left)))


def test_a_mean_over_padding_costs_what_the_closed_form_says(
    data: dict[str, Stored], tested: dict[str, Stored]
) -> None:
    both, train = LAW.subsets()["fused"], data["sentiment_toy"]
    masked, unmasked = (linear_rule(both, mask) for mask in (True, False))
    assert (LAW.least_error(both), masked, unmasked) == pytest.approx((0.3724, 0.3798, 0.4647), abs=5e-5)
    assert ".380" in SentimentToy.__doc__ and ".465" in SentimentToy.__doc__
    reached = {}
    for mask in (True, False):
        features = []
        for found in (train, tested["sentiment_toy"]):
            columns = []
            for sensor in LAW.sensors:
                y = LAW.shown(sensor, found.steps[sensor.name], found.lengths[sensor.name])
                columns.append(y if mask else y * found.lengths[sensor.name][:, None] / sensor.longest)
            features.append(np.hstack(columns))
        fitted = LinearRegression().fit(features[0][:1600], train.label[:1600])
        reached[mask] = mean_absolute_error(tested["sentiment_toy"].label, fitted.predict(features[1]))
    assert reached[True] == pytest.approx(masked, rel=0.05) and reached[False] == pytest.approx(unmasked, rel=0.05)


def test_a_length_that_is_wrong_by_a_step_shows(tested: dict[str, Stored]) -> None:
    found = tested["sentiment_toy"]
    best = headline("sentiment_toy", found.posterior(("language", "voice")), found.label)
    longer = {name: np.minimum(t + 1, found.steps[name].shape[1]) for name, t in found.lengths.items()}
    shorter = {name: np.maximum(t - 1, 1) for name, t in found.lengths.items()}
    reads_padding = replace(found, lengths=longer).posterior(("language", "voice"))
    leaves_out = replace(found, lengths=shorter).posterior(("language", "voice"))
    assert headline("sentiment_toy", reads_padding, found.label) > 2 * best
    assert headline("sentiment_toy", leaves_out, found.label) > 1.04 * best


# ---- metrics -----------------------------------------------------------------------------------------------------
def test_metrics_of_a_number_are_scikit_learns(tested: dict[str, Stored]) -> None:
    found, metrics = tested["sentiment_toy"], SentimentToy.task.metrics
    for names in LAW.subsets().values():
        outputs = found.posterior(names).mean
        for values in (outputs, np.round(outputs, 1)):
            predicted = values[:, 0]
            wanted = {
                "mae": mean_absolute_error(found.label, predicted),
                "pearson": stats.pearsonr(found.label, predicted).statistic,
                "acc2": accuracy_score(found.label >= 0, predicted >= 0),
                "acc2_nonzero": accuracy_score(found.label > 0, predicted > 0),
            }
            assert {name: metric.value(values, found.label) for name, metric in metrics.items()} == pytest.approx(
                wanted
            )
    assert metrics["mae"].value(found.posterior(("voice",)).mean, found.label) != pytest.approx(
        wanted["mae"], rel=0.1
    )


def test_metrics_of_labels_are_scikit_learns(tested: dict[str, Stored]) -> None:
    found, metrics = tested["sentiment_toy_labels"], SentimentToyLabels.task.metrics
    for names in LABELS.subsets().values():
        outputs = found.posterior(names).scores(THRESHOLDS)
        for values in (outputs, np.round(outputs, 1)):  # of the second many are equal
            there = values > 0
            wanted = {
                "map": average_precision_score(found.label, values, average="macro"),
                "micro_f1": f1_score(found.label, there, average="micro"),
                "macro_f1": f1_score(found.label, there, average="macro"),
                "label_accuracy": 1 - hamming_loss(found.label, there),
            }
            assert {name: metric.value(values, found.label) for name, metric in metrics.items()} == pytest.approx(
                wanted
            )


def test_the_posterior_of_labels_is_calibrated(tested: dict[str, Stored]) -> None:
    found = tested["sentiment_toy_labels"]
    for names in LABELS.subsets().values():
        chance = stats.norm.cdf(found.posterior(names).scores(THRESHOLDS))
        error = np.sqrt((chance * (1 - chance)).mean(0) / len(chance))
        assert (np.abs(found.label.mean(0) - chance.mean(0)) < 4 * error).all()
        right = np.maximum(chance, 1 - chance)
        accuracy = ((chance > 0.5) == found.label).mean()
        assert accuracy == pytest.approx(right.mean(), abs=4 * math.sqrt((right * (1 - right)).mean() / right.size))
