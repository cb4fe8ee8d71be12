"""The recipes: the paper's table, and their flat form."""

import inspect
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rsynth_jax.training import gan_recipes, inverter_recipes, recipes, segmenter_recipes, translator_recipes
from rsynth_jax.training.recipes import RECIPES, Recipe, flat, replace

PAPER = {  # Santurkar et al. 2019, appendix: epochs, rate, batch, rate / 10 at, epsilon, steps, step size
    "cifar10": (350, 0.01, 256, (150, 250), 0.5, 7, 0.1),
    "restricted-imagenet": (110, 0.1, 128, (30, 60), 3, 7, 0.5),
    "imagenet": (110, 0.1, 256, (100,), 3, 7, 0.5),
    "horse2zebra": (350, 0.01, 64, (50, 100), 5, 7, 0.9),
    "apple2orange": (350, 0.01, 64, (50, 100), 5, 7, 0.9),
    "summer2winter": (350, 0.01, 64, (50, 100), 5, 7, 0.9),
}


@pytest.mark.parametrize("name", PAPER)
def test_a_papers_recipe_has_the_papers_numbers(name):
    r = SimpleNamespace(**flat(RECIPES[name]))
    row = (r.epochs, r.learning_rate, r.batch_size, r.milestones, r.epsilon, r.num_steps, r.step_size)
    assert row == PAPER[name]
    assert (r.method, r.norm, r.optimizer, r.schedule) == ("pgd", "l2", "sgd", "step")
    assert (r.momentum, r.weight_decay, r.architecture[:8]) == (0.9, 5e-4, "resnet50")


def test_the_flat_form_has_every_value_once_and_only_plain_ones():
    values = flat(Recipe())
    groups = [group._fields for group in Recipe() if hasattr(group, "_fields")]
    assert len(values) == sum(map(len, groups)) + len(Recipe()) - len(groups)
    assert json.loads(json.dumps(values)) == values | {"mean": [0.5], "std": [0.25], "milestones": [150, 250]}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_its_flat_form(name):
    assert replace(Recipe(), **flat(RECIPES[name])) == RECIPES[name]


def test_replacing_a_value_changes_that_value_alone():
    assert flat(replace(Recipe(), epsilon=2.0, epochs=3)) == flat(Recipe()) | {"epsilon": 2.0, "epochs": 3}


def test_an_unknown_value_is_refused_by_name():
    with pytest.raises(ValueError, match="no epsilom"):
        replace(Recipe(), epsilom=1.0)


def test_recipes_are_read_without_jax():
    code = "import sys, rsynth_jax.training.recipes; print({'jax', 'flax', 'optax'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(
    "module", [recipes, gan_recipes, inverter_recipes, segmenter_recipes, translator_recipes]
)
def test_every_value_has_the_words_of_its_flag_beside_it(module):
    values = re.findall(r"^    \w+: .*(?<!\{\})$", inspect.getsource(module), re.MULTILINE)
    assert len(values) > 5 and not [line for line in values if not re.search(r"  # .{6}", line)]
