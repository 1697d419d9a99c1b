"""ROAD: do "most relevant first" and "least relevant first" rank methods alike?

Removing a good ranking's most relevant pixels first should cost accuracy early, its least relevant ones first late:
both orders judge the same rankings, those of `road.py`, whose digits, network and ways of removal these are.

The consistency is Spearman's correlation between the two orders' rankings of methods by accuracy, averaged over the
shares removed; intervals are bootstrapped over 200 images. Expect imputation to be the more consistent: with MNIST's
digits 0.84 [0.74, 0.87] for the eight against 0.47 [0.37, 0.58] with the mean and 0.05 [-0.08, 0.17] with zeros; the
few small images of --quick do not show it.

    python examples/road_consistency.py [--quick] [--data FOLDER] [--output FOLDER]    (--data: MNIST's IDX files)

Source: Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods".
"""

import jax
import jax.numpy as jnp
import numpy as np
from road import judged, options

import jaxplain
from jaxplain import evaluate, plot

EIGHT = [f"{base}{kind}" for base in ("IG", "guided") for kind in ("", ", smooth", ", squared", ", variance")]


def consistency(scores, rows):
    """The orders' agreement on all examples (first) and on each of the bootstrap's draws, `[draws, shares]`."""

    def agreement(draw):  # NaN at a share at which all methods tie
        morf, lerf = scores[:, :, draw].mean(2).swapaxes(1, 2)
        return jax.vmap(evaluate.spearman)(-morf, lerf)

    return np.asarray(jax.lax.map(agreement, rows))


def interval(draws):
    return "{:.2f} [{:.2f}, {:.2f}]".format(draws[0], *np.percentile(draws[1:], [2.5, 97.5]))


def main() -> None:
    given = options("road_consistency")
    names, fractions, scores = judged(given)
    count = scores["imputed"].shape[2]
    rows = jnp.asarray(np.vstack([np.arange(count), np.random.default_rng(0).integers(count, size=(500, count))]))
    for chosen in (names,) if given.quick else (EIGHT, names):
        places = np.array([names.index(name) for name in chosen])
        shares = {removal: consistency(score[:, places], rows) for removal, score in scores.items()}
        values = {removal: np.nanmean(agreement, axis=1) for removal, agreement in shares.items()}
        lines = {f"{removal}, {len(chosen)} rankings": agreement[0] for removal, agreement in shares.items()}
        figure = plot.curves(lines, x=fractions, control=(), xlabel="share removed", ylabel="consistency")
        figure.savefig(given.output / f"consistency_{len(chosen)}.png", dpi=150)
        print(f"consistency of {len(chosen)} rankings: " + ", ".join(f"{k} {interval(v)}" for k, v in values.items()))
        for fixed in tuple(values)[1:]:
            gap = values["imputed"] - values[fixed]
            claim = f", above 0: {np.percentile(gap[1:], 2.5) > 0}" if chosen == EIGHT and given.data else ""
            print(f"  imputed minus {fixed}: {interval(gap)}{claim}")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
