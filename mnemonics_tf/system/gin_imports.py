"""The modules that gin files may import: what runs code is named by the user, or lies beside the file."""

from __future__ import annotations

import dataclasses

_PACKAGE = __name__.partition(".")[0]


@dataclasses.dataclass(frozen=True)
class Trusted:
    """The modules that gin files may import, besides those of this package.

    Attributes:
      modules: names; what is in a package of such a name may be imported, too. None by default.
      beside: whether such as lie beside the gin file with the import, or beside the one that the user has named. True
        by default.
      advice: how a user names one, with `{}` for it: half a sentence.
    """

    modules: tuple[str, ...] = ()
    beside: bool = True
    advice: str = "--gin_import={}"

    def names(self, module: str) -> bool:
        """Whether a module is named, or is one of this package."""
        return self.named_by_user(module) or _is_in(module, _PACKAGE)

    def named_by_user(self, module: str) -> bool:
        """Whether a module, or a package that it is in, is one of `modules`."""
        return any(_is_in(module, each) for each in self.modules)


def _is_in(module: str, package: str) -> bool:
    """Whether a module has that name, or is in the package of that name."""
    return module == package or module.startswith(f"{package}.")
