"""Model predictive control on the task's own simulator: plans made anew all the time.

    repeat: every few control steps plan from where each condition is, beginning with what is left
            of its last plan; act by the plan and its feedback until the next one

Plans are those of iLQG, or of samples: predictive sampling, CEM, MPPI. The result is a controller
of each condition that does what was done in the best episode, with the plans' feedback.

Which conditions are planned together changes a plan of iLQG by rounding alone: simulations and
derivatives are the same bit for bit, the backward pass rounds in another way. Along contacts that
grows: controls in [-1, 1] of five plans of a walker (80 steps, one iteration), made alone and among
twenty, differ by up to 2 in one plan, 0.09 in another and 1e-4 in the others in single precision,
and by 1e-10 in double precision. From plan to plan it grows further, up to another gait. The same
batch gives the same result.

Sources: Tassa, Erez & Todorov (2012), "Synthesis and stabilization of complex behaviors through
online trajectory optimization"; Howell et al. (2022), "Predictive sampling: real-time behaviour
synthesis with MuJoCo"; Williams et al. (2017), "Information theoretic MPC for model-based
reinforcement learning".
"""

from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.mpc.config import MpcConfig
from jgps.optimise.mpc.loop import make_mpc
from jgps.tasks import Task


@factory
def mpc(task: Task, config: MpcConfig = MpcConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; an iteration is `config.steps` control steps of an episode.

    Raises:
      ValueError: for a backend other than native threads, and where the task's state does not tell
        what its simulation goes on from.
    """
    return make_mpc(task, config, backend)
