"""CartPole: what makes a policy push right, and what it is afraid of, step by step along an episode.

A network with two heads, the log-odds of pushing right and the value (the rewards still to come), learns by policy
gradient. Exact Shapley values against a set of visited states say how much the cart's place and speed and the pole's
angle and turning add to either head at every step of an episode that starts with a push. Expect longer episodes after
training (over 100 steps with --quick, nearly 200 without; about 21 before), a pole that matters more than the cart for
the action, attributions that add up to better than 1e-4, and a deletion score better (lower) than that of random ones.

    python examples/control.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import jaxplain

NAMES = ("cart's place", "cart's speed", "pole's angle", "pole's turning")
HEADS = {"action: log-odds of right": jnp.array([-1.0, 1.0, 0.0]), "value": jnp.array([0.0, 0.0, 1.0])}
ACTION, VALUE = HEADS


def episode(key: jax.Array, params, apply, start: jax.Array) -> tuple[jax.Array, ...]:
    """States (place, speed, angle, turning), actions and whether the pole still stood, of 200 steps of 0.02 s."""

    def step(carry, index):  # Barto, Sutton and Anderson 1983, without friction
        state, alive = carry
        _place, speed, angle, turning = state
        chance = jax.nn.sigmoid(apply(params, state[None])[0] @ HEADS[ACTION])
        right = jax.random.bernoulli(jax.random.fold_in(key, index), chance)
        push = (jnp.where(right, 10.0, -10.0) + 0.05 * turning**2 * jnp.sin(angle)) / 1.1
        spin = (9.8 * jnp.sin(angle) - jnp.cos(angle) * push) / (0.5 * (4 / 3 - 0.1 * jnp.cos(angle) ** 2 / 1.1))
        new = state + 0.02 * jnp.stack([speed, push - 0.05 * spin * jnp.cos(angle) / 1.1, turning, spin])
        stands = alive & (jnp.abs(new[0]) < 2.4) & (jnp.abs(new[2]) < 0.21)
        return (jnp.where(stands, new, state), stands), (state, right, alive)

    return jax.lax.scan(step, (start, jnp.array(True)), jnp.arange(200))[1]


def train(key: jax.Array, module, params, rounds: int, episodes: int = 64):
    """Policy gradient with the value head as its baseline; one compiled loop over all rounds."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(5e-3))

    def loss(params, states, actions, alive, returns):
        outputs = jax.vmap(module.apply, (None, 0))(params, states)
        logits, value = outputs @ HEADS[ACTION], outputs @ HEADS[VALUE]
        chosen = jax.nn.log_sigmoid(jnp.where(actions, logits, -logits))
        ahead = returns - value
        return jnp.sum(alive * (jnp.square(ahead) - chosen * jax.lax.stop_gradient(ahead))) / alive.sum()

    def update(carry, index):
        params, state = carry
        keys = jax.random.split(jax.random.fold_in(key, index), 2 * episodes)
        starts = jax.vmap(lambda k: jax.random.uniform(k, (4,), minval=-0.05, maxval=0.05))(keys[:episodes])
        states, actions, alive = jax.vmap(episode, (0, None, None, 0))(keys[episodes:], params, module.apply, starts)
        returns = jax.lax.scan(lambda r, a: (a * (1 + 0.98 * r),) * 2, jnp.zeros(episodes), alive.T, reverse=True)[1].T
        changes, state = optimizer.update(jax.grad(loss)(params, states, actions, alive, returns / 10), state)
        return (optax.apply_updates(params, changes), state), alive.sum(axis=1).mean()

    return jax.lax.scan(update, (params, optimizer.init(params)), jnp.arange(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description="What a cart-pole policy looks at.")
    parser.add_argument("--quick", action="store_true", help="train for fewer rounds")
    parser.add_argument("--output", type=Path, default=Path("control"), help="where the figure goes")
    arguments = parser.parse_args()
    module, rounds = jaxplain.models.mlp(3, widths=(32,), activation="gelu"), 60 if arguments.quick else 150
    start = module.init(jax.random.key(0), jnp.zeros((1, 4)))
    (params, _), lengths = jax.jit(train, static_argnums=(1, 3))(jax.random.key(1), module, start, rounds)
    print(f"mean length of an episode: {lengths[0]:.0f} steps before training, {lengths[-5:].mean():.0f} after")
    keys = jax.random.split(jax.random.key(2), 32)
    starts = 0.5 * jax.random.normal(jax.random.key(3), (32, 4)) * jnp.array([1.0, 0.5, 0.1, 0.5])
    visited, _, alive = jax.vmap(episode, (0, None, None, 0))(keys, params, module.apply, starts)
    background = visited[alive][:: int(alive.sum()) // 64][:64]
    states, actions, alive = episode(jax.random.key(4), params, module.apply, jnp.array([0.3, 0.6, 0.05, -0.4]))
    states, side = states[alive], jnp.where(actions[alive], 1.0, -1.0)[:, None]
    f = jaxplain.logit(module.apply, params)
    e = jaxplain.shapley_values(f, baseline=background, batch_size=64)
    found, scores = {}, {}
    for head, weights in HEADS.items():
        target = jnp.broadcast_to(weights, (len(states), 3))
        found[head], scores[head] = jaxplain.explain_batch(e, states, target), jax.vmap(f)(states, target)
        gap = found[head].sum(1) - (scores[head] - jax.vmap(f, (0, None))(background, weights).mean())
        sizes = jnp.abs(found[head]).mean(0)
        print(f"{head}: largest completeness gap {jnp.abs(gap).max():.1e} (below 1e-4)")
        print("  " + ", ".join(f"{name} {share:.0%}" for name, share in zip(NAMES, sizes / sizes.sum(), strict=True)))
    m, taken = jaxplain.evaluate.deletion(f, baseline=background.mean(0)), {"shapley_values": side * found[ACTION]}
    table = jaxplain.evaluate.score_table(taken, {"deletion": m}, states, side * HEADS[ACTION], key=jax.random.key(5))
    print(f"{table}\ndeletion of the action taken: {table.verdict('shapley_values', 'deletion')} than random")
    arguments.output.mkdir(parents=True, exist_ok=True)
    jaxplain.plot.traces(found, scores, names=NAMES, inputs=states).savefig(arguments.output / "episode.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
