"""Meshes of devices: arrays that vary over one, and arrays whose types say how they are sharded.

Inside of ``jax.shard_map`` an array's type says over which axes of the mesh it varies; under
``jax.set_mesh`` with ``AxisType.Explicit`` it says which of its own axes is sharded over which of
the mesh's. Code that is written for runs behind every array needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, PartitionSpec
from jax.typing import ArrayLike

Tree = TypeVar("Tree")


def shared(tree: Tree, *others: Any) -> Tree:
    """``tree``, varying over every axis of a mesh that any leaf of ``others`` varies over.

    Only inside of a ``shard_map`` do arrays vary at all. What a loop carries has to vary from its
    start over all that its body brings in.
    """
    leaves = jax.tree.leaves((tree, others))
    axes = {axis for leaf in leaves for axis in varying(jax.typeof(leaf))}
    return jax.tree.map(lambda leaf: varied(leaf, axes), tree) if axes else tree


def varying(kind: Any) -> frozenset[Any]:
    """The axes of a mesh that a type says its arrays vary over."""
    # Where nothing is compiled (``jax_disable_jit``) a type may say nothing of a mesh.
    mesh = getattr(kind, "manual_axis_type", None)
    return frozenset() if mesh is None else mesh.varying


def varied(leaf: ArrayLike, axes: Iterable[Any]) -> Array:
    """An array that varies over these axes of a mesh too."""
    missing = tuple(axis for axis in axes if axis not in varying(jax.typeof(leaf)))
    return jax.lax.pcast(leaf, missing, to="varying") if missing else jnp.asarray(leaf)


def explicit_axes() -> tuple[Any, ...]:
    """The axes of the mesh in use by which types of arrays say how they are sharded."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in kinds if kind == AxisType.Explicit)


def automatic(
    function: Callable[..., Any], axes: tuple[Any, ...], arguments: Any, options: Any
) -> Any:
    """``function(*arguments, **options)``, inside of which the compiler shards over these axes.

    The runs are last, in what is given and in what is returned; so what is returned is sharded as
    what was given, axis by axis from the last one.

    Args:
        function: of arrays and of whatever else.
        axes: the mesh's, explicit ones.
        arguments: its arguments; trees that may hold arrays.
        options: the same, by name.
    """
    leaves, structure = jax.tree.flatten((arguments, options))
    arrays = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Array)]
    # What is returned may hold more than arrays, in the outline of its tree.
    outlines: list[Any] = []

    def of_arrays(*given: Array) -> list[Any]:
        filled = [*leaves]
        for place, leaf in zip(arrays, given, strict=True):
            filled[place] = leaf
        each, options = jax.tree.unflatten(structure, filled)
        returned, outline = jax.tree.flatten(function(*each, **options))
        outlines[:] = [outline]
        return returned

    given = [leaves[place] for place in arrays]
    kinds = [jax.typeof(leaf) for leaf in given]
    plain = [jax.ShapeDtypeStruct(kind.shape, kind.dtype) for kind in kinds]
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        shapes = jax.eval_shape(of_arrays, *plain)
    out = [_spec(leaf.shape, kinds) for leaf in shapes]
    sharded: Any = jax.sharding.auto_axes(of_arrays, axes=axes, out_sharding=out)
    return jax.tree.unflatten(outlines[0], sharded(*given))


def _spec(shape: tuple[int, ...], kinds: Iterable[Any]) -> PartitionSpec:
    """How an array of the shape is sharded where these types are, axis by axis from the last."""
    found: list[Any] = [None] * len(shape)
    for kind in kinds:
        for back, axis in enumerate(reversed(kind.sharding.spec), 1):
            if axis is not None and back <= len(shape) and shape[-back] == kind.shape[-back]:
                found[-back] = axis
    return PartitionSpec(*found)
