"""Loops whose convolutions have the form that is fast on a CPU.

    state, infos = scan(lambda state, _: ascent.step(state), state, length=60)

XLA brings the convolutions of a gradient into the form for which it has fast code, but not those of a loop:
there they take five times as long. Here they have that form from the start. Those of 3 x 3 with stride 1
become matrix products by Winograd's algorithm (Lavin & Gray 2016, F(2 x 2, 3 x 3)): 16 multiplications of 36.
What does not depend on the state of a loop, such as a transformed kernel, is computed once, before the loop.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, primitives

LEAST_CHANNELS = 16  # of a convolution by Winograd's algorithm: for fewer its products are too thin

# calls that become part of their caller
_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call")
_PARTS = ("checkpoint", "remat2", "scan", "while", "cond")  # what applies functions of its own
_NHWC = (0, 3, 1, 2)  # the places of the batch, the channels, the rows and the columns
_HWIO = (3, 2, 0, 1)  # the places of the output and input channels, the rows and the columns
_INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))


def scan(body: Callable, init: Any, xs: Any = None, length: int | None = None) -> tuple[Any, Any]:
    """Loop as `jax.lax.scan` does; on a CPU with fast convolutions.

    Args:
      body: (state, x) -> (state, y), of pytrees of arrays, already differentiated where that is wanted.
      init: the first state.
      xs: a pytree of arrays, with one row a step.
      length: the number of steps, where there are no `xs`.

    Returns:
      The last state, and the ys stacked along a leading axis.
    """
    return jax.lax.platform_dependent(
        init,
        xs,
        cpu=functools.partial(_scan, body, length=length),
        default=lambda init, xs: jax.lax.scan(body, init, xs, length),
    )


def _scan(body: Callable, init: Any, xs: Any, length: int | None) -> tuple[Any, Any]:
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    closed, (_, shapes) = jax.make_jaxpr(in_fast_form(body), return_shape=True)(init, one)
    fixed = _fixed(closed)
    num = len(jax.tree.leaves(init))

    def step(state: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        outputs = _evaluate(closed, [*state, *x], fixed)
        return outputs[:num], outputs[num:]

    state, ys = jax.lax.scan(step, jax.tree.leaves(init), jax.tree.leaves(xs), length)
    ys = jax.tree.unflatten(jax.tree.structure(shapes), ys)
    return jax.tree.unflatten(jax.tree.structure(init), state), ys


def in_fast_form(function: Callable) -> Callable:
    """Return the same function, with its convolutions in the form that is fast on a CPU.

    Args:
      function: of pytrees of arrays, already differentiated where that is wanted. Calls of `jax.jit` in it
        and functions with derivatives of their own become part of it.
    """

    def evaluated(*arguments: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        outputs = _evaluate(closed, jax.tree.leaves(arguments), {})
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return evaluated


def _fixed(closed: ClosedJaxpr) -> dict[Var, Any]:
    """Compute what does not depend on the arguments, where it takes little more memory than its sources."""
    values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    for equation in closed.jaxpr.eqns:
        sources = [atom for atom in equation.invars if not isinstance(atom, Literal)]
        is_fixed = all(source in values for source in sources) and not equation.effects
        if is_fixed and _size(equation.outvars) <= 2 * _size(sources):
            values.update(_results(equation, values))
    return values


def _size(variables: Sequence[Any]) -> int:
    return sum(math.prod(variable.aval.shape) for variable in variables)


def _evaluate(closed: ClosedJaxpr, arguments: Sequence[Any], known: dict[Var, Any]) -> list[Any]:
    """Apply a traced function to arrays; some of its values are known."""
    jaxpr = closed.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *arguments), strict=True)) | known
    for equation in jaxpr.eqns:
        if not all(variable in known for variable in equation.outvars):
            values.update(_results(equation, values))
    return [_value(atom, values) for atom in jaxpr.outvars]


def _value(atom: Any, values: dict[Var, Any]) -> Any:
    return atom.val if isinstance(atom, Literal) else values[atom]


def _results(equation: JaxprEqn, values: dict[Var, Any]) -> dict[Var, Any]:
    """Compute the results of one equation."""
    outputs = _apply(equation, [_value(atom, values) for atom in equation.invars])
    return dict(zip(equation.outvars, outputs, strict=True))


def _apply(equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
    primitive, params = equation.primitive, equation.params
    if primitive is primitives.conv_general_dilated_p and _is_of_images(inputs[0], params):
        return [_convolve(*inputs, **params)]
    if primitive.name in _CALLS:
        return _evaluate(params.get("jaxpr") or params["call_jaxpr"], inputs, {})
    if primitive.name in _PARTS:
        params = {name: _rewritten(value) for name, value in params.items()}
    outputs = primitive.bind(*inputs, **params)
    return outputs if primitive.multiple_results else [outputs]


def _rewritten(value: Any) -> Any:
    """A parameter of an equation: a function, several of them, or anything else, which stays as it is."""
    if isinstance(value, tuple):
        return tuple(_rewritten(each) for each in value)
    if not isinstance(value, ClosedJaxpr | Jaxpr):
        return value
    closed = value if isinstance(value, ClosedJaxpr) else ClosedJaxpr(value, ())
    shapes = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type) for aval in closed.in_avals
    ]
    fast = jax.make_jaxpr(lambda *arguments: _evaluate(closed, arguments, {}))(*shapes)
    return fast if isinstance(value, ClosedJaxpr) else fast.jaxpr


def _is_of_images(x: jax.Array, params: dict[str, Any]) -> bool:
    return x.ndim == 4 and params["batch_group_count"] == 1


def _convolve(x: jax.Array, kernel: jax.Array, *, dimension_numbers: Any, **params: Any) -> jax.Array:
    """Convolve with every dimension at its place, and move those of the output back."""
    x = jnp.transpose(x, _axes(_NHWC, dimension_numbers.lhs_spec))
    kernel = jnp.transpose(kernel, _axes(_HWIO, dimension_numbers.rhs_spec))
    if _is_for_winograd(x, kernel, params):
        y = winograd(x, kernel, params["padding"])
    else:
        y = jax.lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **params)
    return jnp.transpose(y, _axes(dimension_numbers.out_spec, _NHWC))


def _axes(to: Sequence[int], places: Sequence[int]) -> list[int]:
    """Order the axes so that what is at `places` comes to the places `to`."""
    return [places[to.index(place)] for place in range(len(to))]


def _is_for_winograd(x: jax.Array, kernel: jax.Array, params: dict[str, Any]) -> bool:
    return (
        all(params[name] == (1, 1) for name in ("window_strides", "lhs_dilation", "rhs_dilation"))
        and kernel.shape[:2] == (3, 3)
        and min(kernel.shape[2:]) >= LEAST_CHANNELS
        and params["feature_group_count"] == 1
        and x.dtype == kernel.dtype == jnp.float32
        and min(min(pads) for pads in params["padding"]) >= 0
    )


def winograd(x: jax.Array, kernel: jax.Array, padding: Sequence[tuple[int, int]]) -> jax.Array:
    """Convolve images (n, h, w, c) with a kernel (3, 3, c, k), with stride 1.

    Each tile of 2 x 2 of the output is made from a tile of 4 x 4 of the padded input.
    """
    (n, h, w, c), k = x.shape, kernel.shape[-1]
    (top, bottom), (left, right) = padding
    height, width = h + top + bottom - 2, w + left + right - 2
    tall, wide = -(-height // 2), -(-width // 2)  # the number of tiles down and across
    x = jnp.pad(x, ((0, 0), (top, bottom + height % 2), (left, right + width % 2), (0, 0)))
    rows = jnp.stack(_combine(_INPUT, [x[:, i : i + 2 * tall - 1 : 2] for i in range(4)]))
    inputs = _combine(_INPUT, [rows[:, :, :, j : j + 2 * wide - 1 : 2] for j in range(4)])
    kernels = _transformed(_transformed(kernel, 0), 1)

    def product(tiles: jax.Array, kernels: jax.Array) -> jax.Array:
        y = jnp.einsum("itc,ick->itk", tiles.reshape(4, n * tall * wide, c), kernels)
        return y.reshape(4, n, tall, wide, k)

    columns = _combine(_OUTPUT, [product(tiles, kernels[:, j]) for j, tiles in enumerate(inputs)])
    outputs = [_combine(_OUTPUT, list(column)) for column in columns]
    y = jnp.stack([jnp.stack(pair, 3) for pair in zip(*outputs, strict=True)], 2)
    return y.reshape(n, 2 * tall, 2 * wide, k)[:, :height, :width]


def _combine(signs: Sequence[Sequence[int]], arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Sum the arrays with these signs, for each row of signs."""

    def one(row: Sequence[int]) -> jax.Array:
        terms = (array if sign > 0 else -array for sign, array in zip(row, arrays, strict=True) if sign)
        return functools.reduce(jnp.add, terms)

    return [one(row) for row in signs]


def _transformed(kernel: jax.Array, axis: int) -> jax.Array:
    """Make four taps along an axis of three."""
    first, middle, last = (jax.lax.index_in_dim(kernel, i, axis, keepdims=False) for i in range(3))
    sides, middle = (first + last) / 2, middle / 2
    return jnp.stack([first, sides + middle, sides - middle, last], axis)
