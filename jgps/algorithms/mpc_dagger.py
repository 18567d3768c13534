"""Plans, made anew all the time, label the states that a network visits: DAgger of MPC, with gains.

    repeat: the network acts in many episodes at once; in every state that it visits
                minimise  cost, over a receding horizon: the first action is the label, and its
                feedback says how the label changes nearby
            train the network on labels and gains of recent iterations
            roll the network out without noise

Episodes go on from one iteration to the next, however long they are, and are drawn anew at their
end: with other commands, pushes, masses, friction and latency, where the task says so
(`jgps.tasks.Episodes`). Plans know the whole state and the physics of their episode, but no push;
the network knows what it observes.

Source: Ross, Gordon & Bagnell (2011), "A reduction of imitation learning and structured prediction
to no-regret online learning"; of gains as targets Mordatch & Todorov (2014), "Combining the
benefits of function approximation and trajectory optimization", and Mordatch et al. (2015),
"Interactive control of diverse complex characters with neural networks".
"""

from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.labelling.config import MpcDaggerConfig
from jgps.optimise.labelling.loop import make_labelling
from jgps.tasks import Task


@factory
def mpc_dagger(
    task: Task, config: MpcDaggerConfig = MpcDaggerConfig(), backend: str = "auto"
) -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for another backend than native threads, and a task whose state does not tell
        where its simulation is.
    """
    return make_labelling(task, config, backend)
