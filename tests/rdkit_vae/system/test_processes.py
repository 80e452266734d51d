"""Signals as something to wait for."""

import os
import signal

from rdkit_vae.system.processes import Interrupts


def test_a_request_to_stop_is_no_signal() -> None:
    """So the user's first Ctrl-C after it is still the first."""
    with Interrupts() as interrupts:
        interrupts.ask_to_stop()
        assert interrupts.pipe.poll()
        assert interrupts.count() == 0
        for expected in (1, 2):
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.count() == expected
