"""Small robots of the kinds that people have: servos, muscles, tendons, activations."""


def quadruped(kp: float = 100.0) -> str:
    """Twelve position servos, about as heavy as a Go1, standing at keyframe "home"."""
    leg = """
      <body name="{n}_hip" pos="{x} {y} 0">
        <joint name="{n}_hip" axis="1 0 0" range="-.86 .86"/>
        <geom type="sphere" size=".04" mass=".6" contype="0" conaffinity="0"/>
        <body name="{n}_thigh" pos="0 {side} 0">
          <joint name="{n}_thigh" axis="0 1 0" range="-.7 4"/>
          <geom type="capsule" fromto="0 0 0 0 0 -.213" size=".018" mass=".9"/>
          <body name="{n}_calf" pos="0 0 -.213">
            <joint name="{n}_calf" axis="0 1 0" range="-2.8 -.8"/>
            <geom type="capsule" fromto="0 0 0 0 0 -.213" size=".012" mass=".2"
              contype="0" conaffinity="0"/>
            <geom name="{n}_foot" pos="0 0 -.213" size=".022" mass=".06" friction=".8"/>
          </body>
        </body>
      </body>"""
    corners = [("FR", 0.19, -0.05), ("FL", 0.19, 0.05), ("RR", -0.19, -0.05), ("RL", -0.19, 0.05)]
    legs = "".join(leg.format(n=n, x=x, y=y, side=1.6 * y) for n, x, y in corners)
    servos = "".join(
        f'<position name="{n}_{part}" joint="{n}_{part}" kp="{kp}" forcerange="-33 33" '
        f'inheritrange="1"/>'
        for n, *_ in corners
        for part in ("hip", "thigh", "calf")
    )
    pose = " ".join(["0 .9 -1.8"] * 4)
    return f"""
    <mujoco model="quadruped">
      <compiler angle="radian"/>
      <option timestep=".004"/>
      <default><joint damping="1" armature=".01"/></default>
      <worldbody>
        <geom name="floor" type="plane" size="5 5 .1"/>
        <body name="trunk" pos="0 0 .3">
          <freejoint name="root"/>
          <geom type="box" size=".19 .05 .057" mass="5.2"/>{legs}
        </body>
      </worldbody>
      <actuator>{servos}</actuator>
      <keyframe><key name="home" qpos="0 0 .287 1 0 0 0 {pose}" ctrl="{pose}"/></keyframe>
    </mujoco>"""


def humanoid(kp: float = 150.0) -> str:
    """Twenty-two position servos; it stands on two boxes with bent knees."""
    names: list[str] = []

    def joints(part: str, axes: str) -> str:
        names.extend(f"{part}_{axis}" for axis in axes)
        vectors = {"x": "1 0 0", "y": "0 1 0", "z": "0 0 1"}
        return "".join(f'<joint name="{part}_{axis}" axis="{vectors[axis]}"/>' for axis in axes)

    def arm(side: str, y: float) -> str:
        return f"""
        <body pos="0 {y} .2">{joints(side + "_shoulder", "yxz")}
          <geom type="capsule" fromto="0 0 0 0 {y / 4} -.24" size=".03" mass="1.5"/>
          <body pos="0 {y / 4} -.24">{joints(side + "_elbow", "y")}
            <geom type="capsule" fromto="0 0 0 .02 0 -.22" size=".025" mass="1"/>
          </body>
        </body>"""

    def leg(side: str, y: float) -> str:
        return f"""
        <body pos="0 {y} -.06">{joints(side + "_hip", "zxy")}
          <geom type="capsule" fromto="0 0 0 0 0 -.34" size=".05" mass="4"/>
          <body pos="0 0 -.36">{joints(side + "_knee", "y")}
            <geom type="capsule" fromto="0 0 0 0 0 -.3" size=".04" mass="2.5"/>
            <body pos="0 0 -.34">{joints(side + "_ankle", "yx")}
              <geom type="box" size=".11 .05 .02" pos=".03 0 -.04" mass=".8" condim="3"/>
            </body>
          </body>
        </body>"""

    body = f"""
      <body name="pelvis" pos="0 0 1">
        <freejoint name="root"/>
        <geom type="box" size=".07 .12 .06" mass="6"/>
        {leg("left", 0.1)}{leg("right", -0.1)}
        <body name="torso" pos="0 0 .1">{joints("waist", "zy")}
          <geom type="box" size=".08 .14 .15" pos="0 0 .15" mass="14" contype="0" conaffinity="0"/>
          {arm("left", 0.22)}{arm("right", -0.22)}
        </body>
      </body>"""
    bend = {"hip_y": -0.35, "knee_y": 0.7, "ankle_y": -0.35, "elbow_y": -0.5}
    pose = " ".join(str(bend.get(name.partition("_")[2], 0)) for name in names)
    servos = "".join(
        f'<position name="{name}" joint="{name}" kp="{kp}" dampratio="1" ctrlrange="-2 2"/>'
        for name in names
    )
    # Hips and ankles at the same x, feet flat: 0.36 cos .35 + 0.34 cos .35 + .06 above the ground.
    height = 0.06 + (0.36 + 0.34) * 0.93937 + 0.06
    return f"""
    <mujoco model="humanoid">
      <compiler angle="radian"/>
      <option timestep=".004"/>
      <default><joint damping="1" armature=".02"/></default>
      <worldbody><geom name="floor" type="plane" size="5 5 .1"/>{body}</worldbody>
      <actuator>{servos}</actuator>
      <keyframe><key name="stand" qpos="0 0 {height:.4f} 1 0 0 0 {pose}"/></keyframe>
    </mujoco>"""


ARM_POSE = (0.0, 0.4, 0.0, -1.9, 0.0, 2.2, 0.7)

# Seven general position actuators of an arm like Franka's, with gravity.
ARM = """
<mujoco model="arm">
  <compiler angle="radian"/>
  <option timestep=".002"/>
  <default><joint armature=".1" damping="1" axis="0 0 1" range="-2.9 2.9"/></default>
  <worldbody>
    <body name="link1" pos="0 0 .33"><joint name="j1"/><geom type="capsule" fromto="0 0 -.15 0 0 0"
        size=".06" mass="4"/>
      <body name="link2" quat="1 -1 0 0"><joint name="j2"/><geom type="capsule" size=".06" mass="3"
          fromto="0 0 0 0 -.15 0"/>
        <body name="link3" pos="0 -.316 0" quat="1 1 0 0"><joint name="j3"/><geom type="capsule"
            size=".06" mass="3" fromto="0 0 -.12 0 0 0"/>
          <body name="link4" pos=".0825 0 0" quat="1 1 0 0"><joint name="j4" range="-3 0"/>
            <geom type="capsule" size=".05" mass="2.5" fromto="0 0 0 -.05 .1 0"/>
            <body name="link5" pos="-.0825 .384 0" quat="1 -1 0 0"><joint name="j5"/>
              <geom type="capsule" size=".05" mass="3" fromto="0 0 -.2 0 0 0"/>
              <body name="link6" quat="1 1 0 0"><joint name="j6" range="0 3.7"/>
                <geom type="capsule" size=".05" mass="1.5" fromto="0 0 0 .06 0 0"/>
                <body name="link7" pos=".088 0 0" quat="1 1 0 0"><joint name="j7"/>
                  <geom type="capsule" size=".04" mass="1.2" fromto="0 0 0 0 0 .15"/>
                  <site name="tip" pos="0 0 .2"/>
                </body>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <general joint="j1" gainprm="450" biastype="affine" biasprm="0 -450 -45" ctrlrange="-2.9 2.9"/>
    <general joint="j2" gainprm="450" biastype="affine" biasprm="0 -450 -45" ctrlrange="-1.8 1.8"/>
    <general joint="j3" gainprm="350" biastype="affine" biasprm="0 -350 -35" ctrlrange="-2.9 2.9"/>
    <general joint="j4" gainprm="350" biastype="affine" biasprm="0 -350 -35" ctrlrange="-3 0"/>
    <general joint="j5" gainprm="200" biastype="affine" biasprm="0 -200 -20" ctrlrange="-2.9 2.9"/>
    <general joint="j6" gainprm="200" biastype="affine" biasprm="0 -200 -20" ctrlrange="0 3.7"/>
    <general joint="j7" gainprm="200" biastype="affine" biasprm="0 -200 -20" ctrlrange="-2.9 2.9"/>
  </actuator>
</mujoco>"""


def elbow(actuators: str, tendons: str = "") -> str:
    """Two links that hang from a shoulder, held out by the actuators."""
    return f"""
    <mujoco model="elbow">
      <option timestep=".002"/>
      <default><joint axis="0 1 0" armature=".02" damping=".3"/></default>
      <worldbody>
        <site name="s0" pos=".03 0 .1"/><site name="s1" pos=".03 0 -.1"/>
        <body name="upper"><joint name="shoulder"/>
          <geom type="capsule" fromto="0 0 0 .3 0 0" size=".025" mass="1"/>
          <site name="s2" pos=".2 0 .08"/><site name="s3" pos=".2 0 -.08"/>
          <body name="lower" pos=".3 0 0"><joint name="elbow"/>
            <geom type="capsule" fromto="0 0 0 .25 0 0" size=".02" mass=".5"/>
            <site name="s4" pos=".1 0 .06"/><site name="s5" pos=".1 0 -.06"/>
            <site name="hand" pos=".25 0 0"/>
          </body>
        </body>
      </worldbody>
      <tendon>
        <fixed name="sum"><joint joint="shoulder" coef="1"/><joint joint="elbow" coef=".5"/></fixed>
        <fixed name="difference"><joint joint="shoulder" coef="-.5"/>
          <joint joint="elbow" coef="1"/></fixed>
        <spatial name="lift"><site site="s0"/><site site="s2"/></spatial>
        <spatial name="drop"><site site="s1"/><site site="s3"/></spatial>
        <spatial name="bend"><site site="s2"/><site site="s4"/></spatial>
        <spatial name="stretch"><site site="s3"/><site site="s5"/></spatial>{tendons}
      </tendon>
      <actuator>{actuators}</actuator>
    </mujoco>"""


_BOTH = ("shoulder", "elbow")
ELBOWS = {
    "muscles": "".join(
        f'<muscle name="{t}" tendon="{t}" ctrlrange="0 1" force="{f}" lengthrange=".05 .35"/>'
        for t, f in (("lift", 200), ("drop", 200), ("bend", 150), ("stretch", 150))
    ),
    "tendon motors": '<motor tendon="sum" ctrlrange="-8 8"/>'
    '<motor tendon="difference" gear="2" ctrlrange="-4 4"/>',
    "tendon servos": '<position tendon="sum" kp="40" kv="2"/>'
    '<position tendon="difference" kp="40" kv="2"/>',
    "integrators": "".join(f'<intvelocity joint="{j}" kp="60" actrange="-3 3"/>' for j in _BOTH),
    "integrated motors": "".join(f'<general joint="{j}" dyntype="integrator"/>' for j in _BOTH),
    "filters": "".join(
        f'<general joint="{j}" dyntype="filterexact" dynprm=".05" gainprm="5" ctrlrange="-3 3"/>'
        for j in _BOTH
    ),
    "filtered servos": "".join(
        f'<position joint="{j}" kp="60" kv="4" timeconst=".05"/>' for j in _BOTH
    ),
    "velocity servos": "".join(f'<velocity joint="{j}" kv="10"/>' for j in _BOTH),
    "a motor and a servo": '<motor joint="shoulder" ctrlrange="-10 10"/>'
    '<position joint="elbow" kp="30" kv="1"/>',
    "three on one joint": '<motor joint="shoulder" ctrlrange="-10 10"/>'
    '<position joint="shoulder" kp="20"/><velocity joint="shoulder" kv="2"/>'
    '<motor joint="elbow" ctrlrange="-5 5"/>',
    "dampers": '<position joint="shoulder" kp="40"/><damper joint="shoulder" kv="5" '
    'ctrlrange="0 1"/><position joint="elbow" kp="30"/>',
    "forces at a site": '<motor site="hand" gear="0 0 1 0 0 0" refsite="s0" ctrlrange="-30 30"/>'
    '<motor joint="shoulder" ctrlrange="-10 10"/>',
}

# Four rotors on a free body, which hover.
DRONE = """
<mujoco model="drone">
  <worldbody>
    <body name="drone" pos="0 0 1"><freejoint/>
      <geom type="box" size=".1 .1 .02" mass="1"/>
      <site name="r1" pos=".1 .1 0"/><site name="r2" pos="-.1 .1 0"/>
      <site name="r3" pos="-.1 -.1 0"/><site name="r4" pos=".1 -.1 0"/>
    </body>
  </worldbody>
  <actuator>
    <motor site="r1" gear="0 0 1 0 0 -.02" ctrlrange="0 8"/>
    <motor site="r2" gear="0 0 1 0 0 .02" ctrlrange="0 8"/>
    <motor site="r3" gear="0 0 1 0 0 -.02" ctrlrange="0 8"/>
    <motor site="r4" gear="0 0 1 0 0 .02" ctrlrange="0 8"/>
  </actuator>
</mujoco>"""
