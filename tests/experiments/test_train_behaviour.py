"""Training of behaviour policies: what needs no sbx-rl."""

import importlib.util
import subprocess
import sys

import pytest

from dtql_jax.errors import UserError
from experiments.train_behaviour.bodies import get_body
from experiments.train_behaviour.selection import choose_levels


def test_levels_are_chosen_by_return_and_time():
    steps = [0, 10, 20, 30, 40, 50, 60, 70, 80]
    returns = [10, 30, 100, 210, 400, 950, 2000, 3000, 1000]
    assert choose_levels(steps, returns) == {
        "expert": 7,
        "medium": 5,  # nearest to 1000 before the expert
        "simple": 4,  # nearest to (10 + 950) / 2
        "replay-1": 1,
        "replay-2": 2,
        "replay-3": 3,
        "replay-4": 4,
    }


def test_a_training_that_learns_nothing_has_all_levels():
    assert set(choose_levels([0, 10], [5.0, 4.0]).values()) <= {0, 1}


def test_an_unknown_body_is_one_line():
    with pytest.raises(UserError, match=r"unknown body 'hoper': did you mean hopper"):
        get_body("hoper")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--body=nobody"], "unknown body 'nobody'"),
        (["--body=hopper", "--notrain"], "no training in"),
        (["--body=hopper", "--episodes=0"], "--episodes is 0; expected at least 1"),
        (["--body=hopper"], 'pip install -e ".[behaviours]"'),
    ],
)
def test_wrong_input_is_one_line(tmp_path, arguments, message):
    if len(arguments) == 1 and "hopper" in arguments[0] and importlib.util.find_spec("sbx"):
        pytest.skip("sbx-rl is installed: this would train")
    command = [sys.executable, "-m", "experiments.train_behaviour", f"--out={tmp_path}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
