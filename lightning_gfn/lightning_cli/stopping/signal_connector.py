"""Lightning's handling of signals, where ours does not take its place."""

from __future__ import annotations

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from lightning_gfn.stop_requests import StopRequests


class SignalConnector(_SignalConnector):
    """Leaves to Lightning what requeues a SLURM job, and every other signal to ``StopRequests``.

    Lightning's own handler of SIGTERM starts a collective from within, which hangs the ranks that got no signal.
    """

    def register_signal_handlers(self) -> None:
        """Register Lightning's handlers, then put ours back in the place of those that it replaced."""
        import signal

        if (requests := StopRequests.active) is None:
            super().register_signal_handlers()
            return
        environment = self.trainer._accelerator_connector.cluster_environment
        leave: tuple[int, ...] = ()
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            requeue = environment.requeue_signal if environment.requeue_signal is not None else signal.SIGUSR1
            self._register_signal(requeue, signal.SIG_DFL)  # Lightning takes it only if it is free
            leave = (int(requeue),)
        super().register_signal_handlers()
        requests.install(leave=leave)

    def stop(self) -> None:
        """Let the loops end after the batch under way."""
        self.received_sigterm = True
