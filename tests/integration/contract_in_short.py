"""The contract of all guest types in short: what an emulated host does in minutes."""

from __future__ import annotations

from integration import contract


class InShort:
    """In the order of a guest's life. The file that has it has contract.py's fixtures, too."""

    test_status_tells_all = staticmethod(contract.test_status_tells_all)
    test_exec_is_root = staticmethod(contract.test_exec_is_root_and_passes_all_on)
    test_ssh_is_the_user = staticmethod(contract.test_ssh_is_the_user_and_passes_all_on)
    test_ssh_checks_the_host_key = staticmethod(contract.test_ssh_checks_the_host_key)
    test_pause_and_resume = staticmethod(contract.test_pause_and_resume)
    test_down_leaves_nothing = staticmethod(contract.test_down_leaves_nothing)
