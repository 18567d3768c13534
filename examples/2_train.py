"""Training from Python: a network learns to bring a point mass to the origin."""

import jgps


def main(iterations: int = 8) -> jgps.training.TrainingResult:
    """Trains on four starting points, and evaluates in six others."""
    # A task says what the robot is, what its state holds, what costs, and where it starts.
    # jgps.tasks.names() lists those that jgps ships.
    task = jgps.tasks.make("point_mass")
    print(f"{task.train.num} training conditions, {task.test.num} unseen ones")

    # In every iteration a controller per condition is sampled and improved, and one network
    # learns from all of them. Numbers of one per condition come as lists.
    def show(record):
        cost = sum(record["cost"]) / len(record["cost"])
        print(f"iteration {record['iteration']}: cost of the samples {cost:.1f}")

    result = jgps.train(task, "mdgps", iterations=iterations, seed=0, on_iteration=show)

    # The network has never started from the unseen conditions.
    for name, conditions in result.evaluation.sets.items():
        print(f"{name}: success {conditions.success_rate:.0%}, distances {conditions.distance}")
    return result


if __name__ == "__main__":
    main()
