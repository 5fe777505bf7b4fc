"""Training: the one loop, its data, its evaluation and the writing of a run folder.

Imports only torch and numpy beyond the standard library (torchvision where the encoder needs it), so that it
also runs on a bare GPU machine.
"""


class Stopped(Exception):  # noqa: N818 (no error: the scheduler asked for it)
    """The process was asked to stop; where training had begun, its checkpoint has been written.

    Attributes:
        run: the run's folder below the results folder, '' where the loop does not know it.
    """

    def __init__(self, run: str = "") -> None:
        super().__init__(f"{run or 'the run'} was asked to stop")
        self.run = run
