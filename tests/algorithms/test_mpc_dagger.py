"""Plans that label what a network visits: episodes, labels, gains, falls, and what is counted."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.algorithms import MpcDaggerConfig, SearchConfig, mpc_dagger
from jgps.core.types import OK
from jgps.optimise.ilqg.system import Goal
from jgps.optimise.labelling import replay
from jgps.optimise.labelling.ground import _on_observation, make_ground
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig
from jgps.simulation.differences import Chained
from jgps.simulation.native import Stepper
from jgps.simulation.tracking import Tracker
from jgps.tasks import Episodes, Pushes, draw, from_mjcf
from jgps.training import checkpoint

MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body name="cart">
      <joint name="x" type="slide" axis="1 0 0" damping="0.2"/><geom size="0.1" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="x" gear="5" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
T, S, N = 8, 3, 5  # control steps of an episode, episodes, steps of an iteration
COMMANDS = {"command": ((-1.0, 1.0), (0.0, 0.0), (0.0, 0.0)), "command_every": (0.1, 0.2)}
ALL = Episodes(
    **COMMANDS,
    pushes=Pushes(body="cart", force=(2.0, 4.0), duration=0.05, every=(0.1, 0.2), direction="x"),
    mass=(0.5, 2.0),
    noise={"qvel": 0.02},
    latency=(0.0, 0.1),
)
SETTINGS = {
    "episodes": S, "steps": N, "horizon": 4, "replan_every": 2, "first_iterations": 2,
    "planner": SearchConfig(iterations=1, step_sizes=2), "labels_kept": 3 * S * N,
    "policy": MlpConfig(hidden=(6,), distil=DistilConfig(steps=60, learning_rate=0.03)),
}  # fmt: skip
CONFIG = MpcDaggerConfig(**SETTINGS)
CALM = MpcDaggerConfig(**SETTINGS, noise=0.0)  # in the first iteration plans act as they label


def _cost(told, s):
    v = s["qvel"].start

    def residual(x, u, t):
        wanted = x[s["sensor:command"].start] if told else 0.5
        return jnp.stack([2 * (x[v] - wanted), 0.1 * u[0]])

    def cost(x, u, t):
        return 0.5 * jnp.sum(jnp.square(residual(x, u, t)))

    cost.residual = residual
    return cost


def _task(episodes=ALL, **settings):
    """A cart that is told how fast to go."""
    told = () if episodes is None else ("sensor:command",)
    return from_mjcf(
        MODEL, cost=functools.partial(_cost, told), state=("qpos", "qvel", *told),
        observation=("qvel", "qpos", *told), horizon=T, episodes=episodes, name="cart", **settings,
    )  # fmt: skip


@functools.cache
def _run(iterations, config=CONFIG, episodes=ALL):
    """The algorithm, and its state and metrics after so many iterations."""
    if iterations == 0:
        algorithm = mpc_dagger(_task(episodes), config)
        return algorithm, algorithm.init(jax.random.key(0)), {}
    algorithm, state, _ = _run(iterations - 1, config, episodes)
    return algorithm, *algorithm.step(state)


def _rows(state, name):
    """What the first iteration put into the ring, [S, N, ...]."""
    return np.asarray(getattr(state.replay.labels, name))[: S * N].reshape(S, N, -1)


def test_episodes_go_on_and_are_drawn_anew_at_their_end():
    """Of 8 steps the first iteration does 5, the second 3 and the first 2 of the next draw."""
    algorithm, start, _ = _run(0)
    drawn = [np.asarray(algorithm.samples(state).x[0]) for state in (start, _run(1)[1])]
    states = [_run(number)[1] for number in (1, 2)]
    assert [int(state.slots.step) for state in states] == [5, 2]
    first, second = (int(state.slots.draw) for state in states)
    assert second == first + 1 == int(start.slots.draw) + 2
    told = [draw(_task(), seed, S).inputs["mocap_pos:command"][..., 0] for seed in (first, second)]
    np.testing.assert_allclose(drawn[0][..., 2], told[0][:, :5], atol=1e-6)
    np.testing.assert_allclose(drawn[1][:, :3, 2], told[0][:, 5:], atol=1e-6)
    np.testing.assert_allclose(drawn[1][:, 3:, 2], told[1][:, :2], atol=1e-6)
    # The mass goes on from where it was, and begins anew with the new draw.
    moved = drawn[1][:, 0, 0] - drawn[0][:, -1, 0]
    np.testing.assert_allclose(moved, 0.05 * drawn[0][:, -1, 1], atol=0.02)
    assert np.abs(moved).max() > 1e-3
    np.testing.assert_array_equal(drawn[1][:, 3, :2], 0)


def test_an_iteration_makes_a_label_in_every_state():
    for iteration in (1, 2):
        _, state, metrics = _run(iteration)
        assert int(metrics["labels"]) == S * N and int(metrics["episode_falls"]) == 0
        np.testing.assert_array_equal(np.sum(state.replay.labels.weight), iteration * S * N)
        assert int(metrics["samples_valid"][0]) == S and int(metrics["status"][0]) == OK
    kept = _run(4)[1].replay.labels.weight  # the fourth takes the place of the first
    np.testing.assert_array_equal(kept, np.ones(3 * S * N))


def test_labels_are_the_plans_actions_in_the_physics_of_their_episode():
    """Without pushes the step after a plan is as it foresaw, whatever the mass is."""
    config, episodes = CALM, Episodes(**COMMANDS, mass=(0.5, 2.0))
    task = _task(episodes)
    _, state, _ = _run(1, config, episodes)
    ground = make_ground(task, config, int(state.slots.draw))
    goal = Goal(np.zeros(S, np.int32), ground.params)
    memory, plan = ground.planner.init(ground.starts, ground.hold, goal)
    states = np.array(ground.starts)
    ground.inputs.write(states, 0)
    for _ in range(config.first_iterations):
        memory, plan = ground.planner.plan(memory, states, goal, jax.random.key(0))
    label = _rows(state, "target")
    np.testing.assert_allclose(label[:, :2], plan.u[:, :2], atol=1e-5)
    assert np.abs(label[:, :2]).max() > 0.05
    masses = ground.conditions.changes["body_mass_scale:cart"]
    assert np.ptp(masses) > 0.1


def test_plans_see_no_push_before_it_moves_anything():
    strong = Pushes(body="cart", force=(9.0, 9.1), duration=0.05, every=(0.06, 0.07))
    visited, labels = [], []
    for pushes in (None, strong):
        episodes = Episodes(**COMMANDS, pushes=pushes)
        algorithm, state, _ = _run(0, CALM, episodes)
        visited.append(np.asarray(algorithm.samples(state).x[0]))
        labels.append(_rows(_run(1, CALM, episodes)[1], "target"))
    # The push of step 1 shows in the velocity of step 2.
    np.testing.assert_array_equal(visited[0][:, :2], visited[1][:, :2])
    assert np.abs(visited[0][:, 2, 1] - visited[1][:, 2, 1]).min() > 0.01
    np.testing.assert_array_equal(labels[0][:, :2], labels[1][:, :2])
    assert np.abs(labels[0][:, 2] - labels[1][:, 2]).max() > 1e-3


def test_what_is_learned_from_is_what_is_seen_late_and_with_noise():
    algorithm, start, _ = _run(0)
    state = _run(1)[1]
    visited = np.asarray(algorithm.samples(start).x[0])
    seen, sensing = _rows(state, "o"), draw(_task(), int(state.slots.draw), S).sensing
    for row in range(S):
        late = np.maximum(np.arange(N) - sensing.latency[row], 0)
        expected = visited[row][late][:, [1, 0, 2, 3, 4]] + sensing.noise[row, :N]
        np.testing.assert_allclose(seen[row], expected, atol=1e-5)
    assert np.ptp(sensing.latency) > 0


def test_gains_on_observations_agree_with_those_on_the_state():
    """Where o tells what K reacts to, K_o J = K; of what it tells twice, each has a share."""
    rng = np.random.default_rng(0)
    J = rng.normal(size=(4, 3, 6)).astype(np.float32)
    K_o = rng.normal(size=(4, 2, 3)).astype(np.float32)
    J = np.concatenate([J, J[:, :1]], axis=1)
    found = np.asarray(_on_observation(jnp.asarray(J), jnp.asarray(K_o @ J[:, :3])))
    np.testing.assert_allclose(found @ J, K_o @ J[:, :3], atol=0.01)
    np.testing.assert_allclose(found[..., 0], found[..., 3], atol=1e-3)
    ground = make_ground(_task(), CONFIG, 1)
    K = rng.normal(size=(S, 1, 2))
    of_cart = ground.gains(ground.starts, K)  # o is (qvel, qpos, command)
    np.testing.assert_allclose(of_cart[..., :2], K[..., ::-1], rtol=1e-3)
    np.testing.assert_array_equal(of_cart[..., 2:], 0)


def test_gains_are_learned_only_where_training_asks_for_them():
    assert _run(1)[1].replay.labels.gain.shape[1:] == (1, 5)
    assert np.abs(np.asarray(_run(1)[1].replay.labels.gain)).max() > 0.1
    plain = MlpConfig(hidden=(6,), distil=DistilConfig(steps=60, input_noise=0.0))
    config = MpcDaggerConfig(**{**SETTINGS, "policy": plain})
    algorithm = mpc_dagger(_task(), config)
    state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
    assert state.replay.labels.gain.shape == (3 * S * N, 1, 0)
    assert int(metrics["policy_status"]) == OK


def test_interrupted_is_uninterrupted(tmp_path):
    """A new object goes on from a saved state, in the middle of episodes, bit for bit."""
    checkpoint.save(tmp_path, 1, _run(1)[1])
    algorithm = mpc_dagger(_task(), CONFIG)
    template = jax.eval_shape(algorithm.init, jax.random.key(0))
    _, state = checkpoint.restore_newest(tmp_path, template)
    for iteration in (2, 3):
        state, metrics = algorithm.step(state)
        _, expected, known = _run(iteration)
        for one, other in zip(
            jax.tree.leaves((state, metrics)), jax.tree.leaves((expected, known)), strict=True
        ):
            if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
                one, other = map(jax.random.key_data, (one, other))
            np.testing.assert_array_equal(one, other)


def test_the_network_learns_what_labels_say():
    losses = [_run(iteration)[2] for iteration in (1, 2, 3)]
    assert all(int(each["policy_status"]) == OK for each in losses)
    assert float(losses[0]["policy_loss"]) < 0.8 * float(losses[0]["policy_loss_before"])
    assert float(losses[2]["policy_loss"]) < float(losses[0]["policy_loss_before"])


def test_after_a_fall_an_episode_begins_again_and_teaches_when_plans_have_settled():
    """Carts that are too far ahead have fallen; then the plan acts for 2 x 2 steps untaught."""
    ahead = Episodes(command=((0.9, 1.0), (0.0, 0.0), (0.0, 0.0)))
    config = MpcDaggerConfig(**{**SETTINGS, "steps": T, "labels_kept": S * T})
    task = _task(ahead, fall=lambda s: lambda x: x[0] > 0.06)
    algorithm = mpc_dagger(task, config)
    start = algorithm.init(jax.random.key(0))
    x = np.asarray(algorithm.samples(start).x[0, ..., 0])
    state, metrics = algorithm.step(start)
    weight = np.asarray(state.replay.labels.weight).reshape(S, T)
    fell = x[:, :-1] > x[:, 1:] + 0.02  # the next state is where it began
    assert fell.any(axis=1).all()
    assert int(metrics["episode_falls"]) >= fell.sum()
    for row in range(S):
        first = int(np.argmax(fell[row])) + 1  # in the state where it begins again
        np.testing.assert_allclose(x[row, first], 0, atol=1e-9)
        np.testing.assert_array_equal(weight[row, :first], 1)
        np.testing.assert_array_equal(weight[row, first : first + 4], 0)
    assert int(metrics["labels"]) == weight.sum()


def test_an_episode_that_diverges_leaves_the_others_alone():
    """A spring beyond all numbers in one of three conditions, which episodes take in turn."""
    found = []
    for stiffness in (0.0, 1e12):
        changes = {"jnt_stiffness:x": np.array([0.0, 0.0, stiffness])}
        upright = {"fall": lambda s: lambda x: jnp.abs(x[0]) > 9}
        task = _task(None, qpos=[[0.1], [0.2], [0.3]], changes=changes, **upright)
        algorithm = mpc_dagger(task, CONFIG)
        found.append(algorithm.step(algorithm.init(jax.random.key(0))))
    (healthy, healthy_metrics), (broken, metrics) = found
    assert int(healthy_metrics["samples_valid"][0]) == S
    assert int(metrics["samples_valid"][0]) == S - 1
    for name in ("o", "target", "weight"):
        np.testing.assert_array_equal(_rows(healthy, name)[:2], _rows(broken, name)[:2])
    np.testing.assert_array_equal(_rows(broken, "weight")[2], 0)
    assert int(metrics["policy_status"]) == OK
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(broken.newest))


class _Counted:
    """Control steps that the simulator does, while it is entered."""

    def __enter__(self):
        self.steps = 0
        step, track, differentiate = Stepper.step, Tracker.__call__, Chained.__call__

        def counted_step(stepper, control, going):
            self.steps += len(control)
            return step(stepper, control, going)

        def counted_track(tracker, followed):
            self.steps += len(followed.size) * followed.states[..., 0].size
            return track(tracker, followed)

        def counted_difference(method, items, found):
            self.steps += len(items.models) * (1 + 2 + 1)  # of qpos, qvel and the motor
            return differentiate(method, items, found)

        self._patches = [
            mock.patch.object(Stepper, "step", counted_step),
            mock.patch.object(Tracker, "__call__", counted_track),
            mock.patch.object(Chained, "__call__", counted_difference),
        ]
        for each in self._patches:
            each.start()
        return self

    def __exit__(self, *error):
        for each in self._patches:
            each.stop()


@pytest.mark.parametrize("iteration", [1, 2])
def test_environment_steps_are_those_that_were_simulated(iteration):
    """Those of plans included; the trial of the network, which teaches nothing, is not."""
    algorithm, before, _ = _run(iteration - 1)
    with _Counted() as counted:
        _, metrics = algorithm.step(before)
    claimed = float(metrics["environment_steps"] - before.environment_steps)
    assert counted.steps - (T - 1) == claimed


def test_what_it_can_not_do_is_said_in_one_sentence():
    with pytest.raises(ValueError, match=r"mpc_dagger plans on native threads alone, and backend"):
        mpc_dagger(_task(), CONFIG, "mjx")
    blind = from_mjcf(MODEL, cost=lambda s: lambda x, u, t: u @ u, state=("qvel",), horizon=T)
    with pytest.raises(ValueError, match="qpos"):
        mpc_dagger(blind, CONFIG)
    with pytest.raises(ValueError, match="labels_kept is 3; it has to be at least episodes"):
        MpcDaggerConfig(**{**SETTINGS, "labels_kept": 3})
    with pytest.raises(ValueError, match="replan_every is 4; it has to be less than the horizon"):
        MpcDaggerConfig(**{**SETTINGS, "replan_every": 4})


def test_what_has_no_label_is_not_learned_from():
    """However empty the ring is, minibatches have labels alone, each about as often."""
    weight = jnp.asarray([0, 1, 0, 1, 1, 0, 0], jnp.float32)
    numbers = jnp.arange(7, dtype=jnp.float32)[:, None]
    gain = jnp.zeros((7, 1, 0), jnp.float16)
    ring = replay.Replay(
        replay.Labels(numbers, numbers, gain, weight), jnp.eye(1), jnp.asarray(3.0), jnp.asarray(1)
    )
    found = replay.learned_from(ring, jnp.asarray(1.0))
    assert found.o.ravel().tolist() == [1, 3, 4, 1, 3, 4, 1]
    assert np.all(np.asarray(found.weight) == 1)
    empty = ring._replace(labels=ring.labels._replace(weight=0 * weight))
    assert np.all(np.asarray(replay.learned_from(empty, jnp.asarray(1.0)).weight) == 0)
