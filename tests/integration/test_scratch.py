from integration.test_state_machine import *

pytestmark = []


def test_it(stage):
    Environment.stage = stage
    Environment.seen = Histories()
    state = Environment()
    f = lambda r: getattr(state, r)
    state.comes_up(restart=False)
    state.adds_or_grows_disk(disk="data", keep=False, name="a")
    state.adds_or_grows_disk(disk="data", keep=True, name="a")
    state.changes_cpus(cpus=3, name="a")
    state.comes_up(restart=False)
    print(stage.runner.run("plan", stage.lab.spec).out)
    state.others_edit_memory(memory=14, name="a")
    print(stage.runner.run("plan", stage.lab.spec).out)
    print(stage.run("up", "--restart", "--yes"))
    print(stage.runner.run("plan", stage.lab.spec).out)
    d = state.domain("a")
    print(d.XMLDesc(2))
    print(d.XMLDesc(0))
    assert 0
