"""A robot with everything in it, and derivatives of plain stepping by central differences."""

import mujoco
import numpy as np

from jgps.simulation import System, load_model
from jgps.simulation.derivatives import DerivativesConfig, Differentiator
from jgps.simulation.state_jacobian import tangent_dim
from jgps.simulation.tangent import moved

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
T = 4
# A free, a ball, a hinge and a slide joint; a tendon, activations with and without limits, a mocap
# body that pulls, an actuator of every kind.
ROBOT = """
<mujoco>
  <option timestep="0.004" integrator="{integrator}"/>
  <worldbody>
    <body name="hand" mocap="true" pos="0 0.3 1"><site name="hand"/></body>
    <body name="torso" pos="0 0 2"><freejoint name="root"/><geom size=".1 .2 .1" type="box"/>
      <body pos=".3 0 0"><joint name="ball" type="ball" damping=".1"/>
        <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03"/><site name="tip" pos=".3 0 0"/>
        <body pos=".3 0 0"><joint name="hinge" axis="0 1 0" damping=".1"/>
          <geom type="capsule" fromto="0 0 0 0 0 .3" size=".03"/>
          <body><joint name="slide" type="slide" axis="1 0 0" stiffness="3"/><geom size=".05"/>
    </body></body></body></body>
  </worldbody>
  <contact><exclude body1="torso" body2="world"/></contact>
  <tendon><spatial name="rope" stiffness="20" springlength=".2"><site site="hand"/>
    <site site="tip"/></spatial></tendon>
  <actuator>
    <motor name="strong" joint="hinge" ctrllimited="true" ctrlrange="-1 1"/>
    <general joint="slide" dyntype="filterexact" dynprm=".1" gainprm="2"/>
    <intvelocity joint="hinge" kp="5" actrange="-1 1"/>
    <muscle tendon="rope" lengthrange=".1 2" force="20"/>
    <motor joint="ball" gear="0 1 1"/>
  </actuator>
  <sensor><framelinvel name="speed" objtype="site" objname="tip"/>
    <accelerometer name="felt" site="tip"/></sensor>
</mujoco>
"""
ENTRIES = (
    *("qpos", "qvel", "act", "phase:0.03", "gyro:root"),
    *("site_pos:tip", "sensor:speed", "body_up:torso"),
)
LEG = """<body pos="{x} {y} 0"><joint name="h{i}" axis="0 1 0" damping=".5"/>
  <geom type="capsule" fromto="0 0 0 0 0 -.2" size=".02" mass=".3"/></body>"""
LEGS = "".join(LEG.format(i=i, x=0.2 - 0.4 * (i // 2), y=0.1 - 0.2 * (i % 2)) for i in range(4))
SERVOS = "".join(f'<position joint="h{i}" kp="40"/>' for i in range(4))


def legs(iterations):
    """A box on four legs that lie on the ground; with few iterations the warm start counts."""
    return f"""<mujoco><option timestep="0.004" iterations="{iterations}" ls_iterations="5"/>
      <worldbody><geom type="plane" size="5 5 .1"/><body name="torso" pos="0 0 .215"><freejoint/>
      <geom type="box" size=".2 .1 .05" mass="5"/>{LEGS}</body></worldbody>
      <actuator>{SERVOS}</actuator>
      <sensor><framepos name="height" objtype="body" objname="torso"/></sensor></mujoco>"""


def make_system(source=ROBOT, entries=ENTRIES, substeps=3, integrator="Euler"):
    """Of T control steps; by default that of the robot."""
    model, layout, _ = load_model(source.replace("{integrator}", integrator), entries)
    return System(model, layout, T, substeps)


def trajectories(system, models, settle=0, seed=0):
    """States [B, T, nstate] and controls [B, T, dU] of plain stepping."""
    rng = np.random.default_rng(seed)
    size = mujoco.mj_stateSize(system.model, STATE)
    states = np.empty((len(models), T, size))
    control = rng.uniform(-0.9, 0.9, (len(models), T, system.model.nu))
    for row, model in enumerate(models):
        data = mujoco.MjData(model)
        data.qpos[:] = moved(model, data.qpos, 0.05 * rng.normal(size=model.nv), np)
        data.qvel[:] = 0.3 * rng.normal(size=model.nv)
        data.act[:] = 0.3 * rng.uniform(size=model.na)
        data.ctrl[:] = 0.2
        mujoco.mj_step(model, data, nstep=settle)
        for t in range(T):
            mujoco.mj_getState(model, data, states[row, t], STATE)
            data.ctrl[:] = control[row, t]
            mujoco.mj_step(model, data, nstep=system.substeps)
    return states, control


def by_hand(system, model, state, control, size=1e-5):
    """F and G of central differences."""
    data, dS = mujoco.MjData(model), tangent_dim(model)
    nv, columns, seen = model.nv, [], []

    def after(change):
        mujoco.mj_setState(model, data, state, STATE)
        mujoco.mj_integratePos(model, data.qpos, np.ascontiguousarray(change[:nv]), 1.0)
        data.qvel += change[nv : 2 * nv]
        data.act += change[2 * nv : dS]
        warm = data.qacc_warmstart.copy()
        mujoco.mj_forward(model, data)
        x = system.layout.of(data)
        data.qacc_warmstart[:] = warm
        data.ctrl[:] = control + change[dS:]
        mujoco.mj_step(model, data, nstep=system.substeps)
        return data.qpos.copy(), data.qvel.copy(), data.act.copy(), x

    for change in size * np.eye(dS + model.nu):
        high, low = after(change), after(-change)
        turned = np.empty(nv)
        mujoco.mj_differentiatePos(model, turned, 1.0, low[0], high[0])
        columns.append(np.r_[turned, high[1] - low[1], high[2] - low[2]] / (2 * size))
        seen.append((high[3] - low[3]) / (2 * size))
    return np.array(columns).T, np.array(seen[:dS]).T


def difference(found, expected):
    """Largest difference beside the largest number."""
    return np.abs(found - expected).max() / np.abs(expected).max()


def chosen_derivatives(system, models, **settings):
    """A differentiator with these settings."""
    return Differentiator(system, models, DerivativesConfig(**settings))
