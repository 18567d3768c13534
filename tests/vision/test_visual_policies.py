"""Policies that look through a camera: what reaches the network, and how it learns in phases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pointer import make_task, small_vision, untrained, with_body

from jgps import tasks
from jgps.algorithms import (
    FixedStartsConfig,
    MdgpsConfig,
    RandomStartsConfig,
    RegressionConfig,
    mdgps,
)
from jgps.dynamics import NoPriorConfig
from jgps.optimise.guided.state import trained
from jgps.optimise.models import FittedModelsConfig
from jgps.policies import DistilConfig, Supervision, acting_on_images
from jgps.policies.learner import MlpConfig
from jgps.rendering import make_view
from jgps.simulation import make_sampler
from jgps.training import checkpoint
from jgps.vision.camera import make_observers
from jgps.vision.config import VisualConfig
from jgps.vision.domain_randomisation import DomainRandomisationConfig, make_randomise_scene
from jgps.vision.learner import make_learner
from jgps.vision.pretraining import draw_pretraining_data

SMALL = small_vision(60, 150, pretraining_joint_spread=0.02)


def _config(**settings):
    arguments = {
        "policy": SMALL,
        "trajectory_iterations": 1,
        "rollouts": FixedStartsConfig(num_samples=3),
    }
    arguments |= {
        "models": FittedModelsConfig(prior=NoPriorConfig()),
        "observation_prior": NoPriorConfig(),
    }
    return MdgpsConfig(**{**arguments, **settings})


def _same(one, other):
    def plain(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    leaves = [jax.tree.leaves(tree) for tree in (one, other)]
    return all(np.array_equal(plain(a), plain(b)) for a, b in zip(*leaves, strict=True))


def test_equal_cameras_and_settings_make_policies_that_share_programs():
    """A policy is a static part of states and of what acts: what differs is compiled anew."""
    first, second = (make_learner(make_task(), SMALL) for _ in range(2))
    assert first.act == second.act and hash(first.act) == hash(second.act)
    wider = make_learner(make_task(), dataclasses.replace(SMALL, width=SMALL.width + 1))
    assert wider.act != first.act
    task = make_task()
    task.model.geom_rgba[-1] = (0.1, 0.9, 0.3, 1.0)
    assert make_learner(task, SMALL).act != first.act


@pytest.fixture(scope="module")
def run():
    """States and metrics: an iteration of controllers alone, one of dense layers, then of all."""
    algorithm = mdgps(make_task(), _config(), backend="native")
    states, metrics = [algorithm.init(jax.random.key(0))], []
    for _ in range(5):
        state, found = algorithm.step(states[-1])
        states.append(state)
        metrics.append(found)
    return algorithm, states, metrics


def _trunk(state):
    return state.newest.variables["params"]["trunk"]


def _head(state):
    return state.newest.variables["params"]["head"]


@pytest.mark.slow
def test_phases(run):
    _, states, metrics = run
    start, alone, heads, whole = states[:4]
    assert _same(start.newest, alone.newest) and _same(start.policy, alone.policy)
    assert not np.isfinite(metrics[0]["policy_loss"]) and np.isinf(alone.policy_cost)
    assert not _same(start.controllers, alone.controllers)
    assert _same(_trunk(alone), _trunk(heads)) and not _same(_head(alone), _head(heads))
    assert not _same(_trunk(heads), _trunk(whole)) and not _same(_head(heads), _head(whole))
    for found in metrics[1:3]:
        assert found["policy_loss"] < found["policy_loss_before"]
    config = _config()
    assert [bool(trained(config, state)) for state in states[:5]] == [
        False,
        False,
        True,
        True,
        True,
    ]
    # Until it is trained, controllers keep to themselves and are what is tried.
    assert (np.asarray(metrics[1]["policy_kl"]) < 1e-5).all()
    assert (np.asarray(metrics[2]["policy_kl"]) > 0).all()


@pytest.mark.slow
def test_the_convolutions_learn_where_the_ball_is(run):
    algorithm, states, metrics = run
    found = states[0].pretraining
    assert found.error < 0.7 * found.error_constant, (found.error, found.error_constant)
    assert metrics[-1]["pose_error"] == found.error


@pytest.mark.slow
def test_a_run_goes_on_exactly_from_any_phase(run, tmp_path):
    algorithm, states, _ = run
    template = jax.eval_shape(algorithm.init, jax.random.key(0))
    for number, state in enumerate(states[:3]):
        checkpoint.save(tmp_path, number, state)
        _, restored = checkpoint.restore_newest(tmp_path, template)
        assert _same(algorithm.step(restored)[0], states[number + 1])


@pytest.mark.slow
def test_only_image_and_configuration_reach_the_network(run):
    algorithm, states, _ = run
    policy, task = states[-1].policy, make_task()
    o = algorithm.inspect(states[-1]).sampled.o[:, 0, 0]  # [C, dO], each with another ball
    params = policy.params_for(None).value
    act = jax.jit(jax.vmap(lambda o: policy.act(params, jnp.zeros(0), o, 0, jnp.zeros(1))))
    actions = act(o)
    assert np.ptp(actions) > 1e-3
    # Another condition's image: all that differs at the start is where the ball is.
    swapped = o.at[:, task.configuration.stop :].set(o[::-1, task.configuration.stop :])
    np.testing.assert_allclose(act(swapped)[::-1], actions, atol=1e-5)
    # What the image does not show changes nothing: the ball out of sight, here and there.
    where = task.vision.position[list(task.vision.bodies).index(task.model.body("ball").id)]
    away = [o.at[:, where].set(jnp.array(place)) for place in ((0, 0, -1.0), (0.1, 0.1, -2.0))]
    np.testing.assert_array_equal(act(away[0]), act(away[1]))
    # With one image, all poses in o may be anything.
    image, _ = jax.jit(policy.observe)(o[0])
    blind = acting_on_images(policy.network, lambda o: (image, o[task.configuration]))
    act = jax.jit(jax.vmap(lambda o: blind(params, jnp.zeros(0), o, 0, jnp.zeros(1))))
    poses = jax.random.normal(jax.random.key(0), o.shape).at[:, task.configuration].set(0)
    np.testing.assert_array_equal(act(o + poses), act(o))


@pytest.mark.slow
def test_success_is_lost_with_images_of_another_condition(run):
    _, states, _ = run
    policy, task = states[-1].policy, make_task()
    where = task.vision.position[list(task.vision.bodies).index(task.model.body("ball").id)]

    def act(params, x, o, t, noise):
        network, ball = params
        return policy.act(network, x, o.at[where].set(ball), t, noise)

    sampler = make_sampler(task.system, task.train, act, "native")
    balls = jnp.asarray(task.train.changes["body_pos:ball"], jnp.float32)
    still = jnp.zeros((task.train.num, 1, task.horizon, 1))

    def success(balls):
        rollouts = sampler.sample((policy.params_for(None), balls), still)
        return np.mean(
            [task.success(x[0], u[0]) for x, u in zip(rollouts.x, rollouts.u, strict=True)]
        )

    assert success(balls) >= 0.75
    assert success(balls[::-1]) == 0


@pytest.mark.slow
def test_one_program_on_mjx_keeps_the_state_as_it_is():
    algorithm = mdgps(make_task(), _config(), backend="mjx")
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    after, metrics = jax.eval_shape(algorithm.step, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    assert metrics["policy_loss"].shape == ()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["pose_features", "pose_prediction"])
def test_the_baselines_keep_their_convolutions(policy, rng):
    """Those of a visuomotor policy learn in the same phase, see `test_phases`."""
    task = make_task()
    vision = dataclasses.replace(SMALL, kind=policy, dense_iterations=0)
    learner = make_learner(task, vision)
    start = untrained(task, vision)
    if policy == "pose_prediction":
        assert set(start.variables["params"]["trunk"]) == {"trunk", "pose"}
    rows = Supervision(
        o=jnp.asarray(rng.normal(size=(2, 2, 4, task.observation_dim)), jnp.float32),
        target=jnp.asarray(rng.normal(size=(2, 2, 4, 1)), jnp.float32),
        precision=jnp.ones((2, 4, 1, 1)),
        weight=jnp.ones((2, 2, 4)),
    )
    after, info = jax.jit(learner.train)(start, rows, jnp.int32(0), jax.random.key(1))
    assert info.loss < info.loss_before
    before, after = start.variables["params"], after.variables["params"]
    assert _same(before["trunk"], after["trunk"])
    assert not _same(before["head"], after["head"])


def test_a_network_of_vectors_reads_no_poses_of_the_scene():
    task = make_task()
    learner, _ = make_learner(task, MlpConfig(hidden=(8,))).init(jax.random.key(0), None)
    o = jnp.ones(task.observation_dim)
    other = o.at[task.configuration_dim :].set(2.0)
    assert learner.mean(o) == learner.mean(other)
    assert learner.variables["params"]["dense_0"]["kernel"].shape == (2, 8)
    algorithm = mdgps(
        task, _config(policy=MlpConfig(hidden=(8,)), trajectory_iterations=0), backend="native"
    )
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    assert state.observation_model.slope.shape[-1] == 2


def test_clutter_stands_about_in_images_to_learn_from_alone():
    task = make_task(source=with_body("thing"), clutter=("thing",))
    view = make_view(task.model, "eye", width=32, height=32)
    xpos = jnp.asarray(task.vision.xpos, jnp.float32)
    xmat = jnp.asarray(task.vision.xmat, jnp.float32)
    thing, ball = (task.model.body(name).id for name in ("thing", "ball"))
    vary = jax.jit(
        jax.vmap(
            make_randomise_scene(task, view, DomainRandomisationConfig()), in_axes=(0, None, None)
        )
    )
    scenes = vary(jax.random.split(jax.random.key(0), 200), xpos, xmat)
    there = scenes.xpos[:, thing, 2] > -1
    assert 70 < there.sum() < 130
    apart = np.linalg.norm(scenes.xpos[:, thing] - scenes.xpos[:, ball], axis=-1)
    assert (apart[there] >= 0.1 - 1e-5).all() and (apart[there] <= 0.35 + 1e-5).all()
    np.testing.assert_array_equal(scenes.xpos[:, ball], np.tile(xpos[ball], (200, 1)))
    geom = int(np.flatnonzero(task.model.geom_bodyid == thing)[0])
    assert np.ptp(scenes.appearance.rgba[:, geom, :3], axis=0).min() > 0.8
    # A network that acts sees the task as it is.
    observe, observe_randomised = make_observers(task, SMALL)
    o = jnp.zeros(task.observation_dim).at[task.vision.rotation[:, (0, 4)]].set(1)
    keys = jax.random.split(jax.random.key(1), 8)
    learned = jax.jit(jax.vmap(lambda key: observe_randomised(key, o)[0]))(keys)
    seen = jax.jit(observe)(o)[0]
    assert (learned != seen).any(axis=(1, 2, 3)).all()


def test_bad_clutter():
    with pytest.raises(ValueError, match=r"clutter: the model has no body 'thing'"):
        make_task(clutter=("thing",))
    with pytest.raises(ValueError, match=r"clutter: the body 'ball' moves"):
        make_task(clutter=("ball",))
    with pytest.raises(ValueError, match=r"DomainRandomisationConfig.farthest is 0.05"):
        DomainRandomisationConfig(farthest=0.05)


def test_scenes_show_objects_between_their_places():
    task = make_task()
    scenes = draw_pretraining_data(task, SMALL, jax.random.key(0))
    ball = scenes.xpos[:, task.model.body("ball").id]
    np.testing.assert_allclose(scenes.pose[:, :3], ball)
    np.testing.assert_allclose(scenes.pose[:, 3:6], ball + (0.1, 0, 0), atol=1e-6)
    places = task.train.changes["body_pos:ball"]
    assert (ball >= places.min(0) - 1e-6).all() and (ball <= places.max(0) + 1e-6).all()
    assert ball[:, 1].std() > 0.05
    again, other = (draw_pretraining_data(task, SMALL, jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(scenes.xmat, again.xmat)
    assert (scenes.xmat != other.xmat).any()
    shapes = jax.eval_shape(lambda key: draw_pretraining_data(task, SMALL, key), jax.random.key(0))
    assert jax.tree.map(np.shape, scenes) == jax.tree.map(np.shape, shapes)


def test_bad_settings():
    point_mass = tasks.make("point_mass")
    with pytest.raises(ValueError, match=r"'point_mass' has no camera .* shape_sorting_cube"):
        make_learner(point_mass, SMALL)
    with pytest.raises(ValueError, match=r"MdgpsConfig.policy is 'cnn'"):
        MdgpsConfig(policy="cnn")
    with pytest.raises(ValueError, match=r"VisualConfig.width is 20; .* >= 25, usually 64"):
        VisualConfig(width=20)
    with pytest.raises(ValueError, match=r"dense.frozen is 'none'"):
        VisualConfig(dense=DistilConfig())
    frozen = DistilConfig(frozen="convolutions", convolution_rate=0.1)
    with pytest.raises(
        ValueError, match=r"dense.convolution_rate is 0.1; .* the convolutions stay"
    ):
        VisualConfig(dense=frozen)
    with pytest.raises(ValueError, match=r"MlpConfig.distil.frozen is 'convolutions'; .* 'none'"):
        MlpConfig(distil=frozen)
    with pytest.raises(ValueError, match=r"MlpConfig.distil.convolution_rate is 0.1; .* be 1"):
        MlpConfig(distil=DistilConfig(convolution_rate=0.1))
    with pytest.raises(ValueError, match=r"channels is .*a tuple of 3"):
        VisualConfig(channels=(8, 8))
    with pytest.raises(ValueError, match=r"only the network can act from random starts"):
        _config(
            rollouts=RandomStartsConfig(), sampling="on_policy", linearisation=RegressionConfig()
        )
    for name in tasks.names():
        assert (tasks.make(name).vision is not None) == (name in tasks.with_vision())
