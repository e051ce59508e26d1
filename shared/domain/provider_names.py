"""Lists the providers: each folder in shared/providers is one, by its name. Imports none of them.

The queues of a broker are named for providers, and what declares them must not depend on the providers' code.
"""

from functools import cache
from importlib.util import find_spec
from pkgutil import iter_modules


@cache
def names() -> tuple[str, ...]:
    """The names of all providers, sorted."""
    package = find_spec("shared.providers")
    assert package is not None, "shared.providers is a package beside this one"
    return tuple(sorted(one.name for one in iter_modules(package.submodule_search_locations) if one.ispkg))
