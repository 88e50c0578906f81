"""Attaching functions to hook points: names resolved first, firings counted, only our own handles removed.

TransformerLens 3.9 ignores unknown hook names and needs a quarter of a second to enter `hooks()` with 60 hooks.
Here unknown names raise with near misses, and handles go on the HookPoint modules themselves. They are ordinary
torch hooks, so `model.reset_hooks()` neither sees nor removes them, and they work under every way of running the
model (`model(...)`, `run_with_hooks`, `run_with_cache`, Hugging Face's `generate`).
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mechgate.errors import HookError, near_misses

Hook = Callable[[Any], Any]
_POINTS: "weakref.WeakKeyDictionary[Any, dict[str, Any]]" = weakref.WeakKeyDictionary()


class Firings(dict[str, int]):
    """How often each attached hook has run, by hook point name."""

    def silent(self) -> list[str]:
        """The hook points whose hooks have not run."""
        return [name for name, count in self.items() if count == 0]


def resolve(model: Any, names: list[str]) -> dict[str, Any]:
    """The HookPoints of `names`; raises `HookError` naming every unknown one and what comes close to it."""
    points = _POINTS.get(model)
    if points is None:
        points = dict(model.hook_dict)  # rebuilt at every access in TransformerLens 3.9: 4 ms
        _POINTS[model] = points
    unknown = [name for name in names if name not in points]
    if unknown:
        close = {name: near_misses(name, points) for name in unknown[:3]}
        raise HookError(
            f"{len(unknown)} hook point name(s) do not exist on this model",
            got=unknown[:3],
            do="; ".join(
                f"for {name!r} try {', '.join(found) or 'a name from model.hook_dict'}" for name, found in close.items()
            ),
        )
    return {name: points[name] for name in names}


@contextlib.contextmanager
def attached(model: Any, hooks: Mapping[str, Hook], *, must_fire: bool = True) -> Iterator[Firings]:
    """Attach `hooks` (name -> function of the activation; None keeps it, a tensor replaces it) for a block.

    Hooks attached earlier see the activation first. On leaving, also by an exception, exactly these handles are
    removed. Raises `HookError` for unknown names, before anything is attached, and, after a block that ended well,
    for hooks that never ran (`must_fire=False` allows that): a hook that does not fire is a silent wrong result.
    """
    points = resolve(model, list(hooks))
    firings = Firings(dict.fromkeys(hooks, 0))
    handles: list[Any] = []
    try:
        for name, function in hooks.items():
            handles.append(points[name].register_forward_hook(_counting(name, function, firings)))
        yield firings
    finally:
        for handle in handles:
            handle.remove()
    if must_fire and (silent := firings.silent()):
        raise HookError(
            f"{len(silent)} of {len(firings)} attached hooks never fired",
            got=silent[:3],
            do="run the model that the hooks are attached to inside the block; some hook points fire only behind flags",
        )


def _counting(name: str, function: Hook, firings: Firings) -> Callable[[Any, Any, Any], Any]:
    def run(point: Any, _inputs: Any, output: Any) -> Any:
        firings[name] += 1
        # A HookPoint may show users another shape than the module's own (z is split into heads).
        conversion = point.hook_conversion
        if conversion is None:
            return function(output)
        changed = function(conversion.convert(output))
        return None if changed is None else conversion.revert(changed)

    return run
